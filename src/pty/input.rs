//! What a human does, as the bytes that a program in a pty expects in its present modes.

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::snapshot::{Modes, MouseMode};

/// The bytes of `event`; empty when the program does not want it. A mouse event's position is
/// counted from the top left of the terminal.
pub fn encode(event: &Event, modes: &Modes) -> Vec<u8> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => encode_key(*key, modes),
        Event::Paste(text) => paste(text, modes),
        Event::Mouse(mouse) => encode_mouse(*mouse, modes),
        Event::FocusGained if modes.focus_events => b"\x1b[I".to_vec(),
        Event::FocusLost if modes.focus_events => b"\x1b[O".to_vec(),
        Event::Key(_) | Event::FocusGained | Event::FocusLost | Event::Resize(..) => Vec::new(),
    }
}

/// `text` as a paste. Control characters other than tab and line ends are removed, so that the
/// text can neither end the paste early nor act as keys. Line ends become CR, as terminals do.
pub fn paste(text: &str, modes: &Modes) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 12);
    if modes.bracketed_paste {
        out.extend_from_slice(b"\x1b[200~");
    }
    let mut last = '\0';
    let mut buffer = [0; 4];
    for character in text.chars() {
        let kept = match character {
            '\n' if last == '\r' => None,
            '\n' | '\r' => Some('\r'),
            '\t' => Some('\t'),
            c if c.is_control() => None,
            c => Some(c),
        };
        if let Some(kept) = kept {
            out.extend_from_slice(kept.encode_utf8(&mut buffer).as_bytes());
        }
        last = character;
    }
    if modes.bracketed_paste {
        out.extend_from_slice(b"\x1b[201~");
    }
    out
}

fn encode_key(key: KeyEvent, modes: &Modes) -> Vec<u8> {
    let modifiers = key.modifiers;
    match key.code {
        KeyCode::Char(character) => encode_character(character, modifiers),
        KeyCode::Enter if modes.newline => with_alt(b"\r\n", modifiers),
        KeyCode::Enter => with_alt(b"\r", modifiers),
        KeyCode::Tab if modifiers.contains(KeyModifiers::SHIFT) => b"\x1b[Z".to_vec(),
        KeyCode::Tab => with_alt(b"\t", modifiers),
        KeyCode::BackTab => b"\x1b[Z".to_vec(),
        KeyCode::Backspace if modifiers.contains(KeyModifiers::CONTROL) => {
            with_alt(b"\x08", modifiers)
        }
        KeyCode::Backspace => with_alt(b"\x7f", modifiers),
        KeyCode::Esc => with_alt(b"\x1b", modifiers),
        KeyCode::Null => vec![0],
        KeyCode::Up => encode_cursor('A', modifiers, modes),
        KeyCode::Down => encode_cursor('B', modifiers, modes),
        KeyCode::Right => encode_cursor('C', modifiers, modes),
        KeyCode::Left => encode_cursor('D', modifiers, modes),
        KeyCode::Home => encode_cursor('H', modifiers, modes),
        KeyCode::End => encode_cursor('F', modifiers, modes),
        KeyCode::Insert => encode_tilde(2, modifiers),
        KeyCode::Delete => encode_tilde(3, modifiers),
        KeyCode::PageUp => encode_tilde(5, modifiers),
        KeyCode::PageDown => encode_tilde(6, modifiers),
        KeyCode::F(number) => encode_function(number, modifiers),
        KeyCode::CapsLock
        | KeyCode::ScrollLock
        | KeyCode::NumLock
        | KeyCode::PrintScreen
        | KeyCode::Pause
        | KeyCode::Menu
        | KeyCode::KeypadBegin
        | KeyCode::Media(_)
        | KeyCode::Modifier(_) => Vec::new(),
    }
}

fn encode_character(character: char, modifiers: KeyModifiers) -> Vec<u8> {
    let mut buffer = [0; 4];
    if modifiers.contains(KeyModifiers::CONTROL)
        && let Some(control) = control_byte(character)
    {
        return with_alt(&[control], modifiers);
    }
    with_alt(character.encode_utf8(&mut buffer).as_bytes(), modifiers)
}

/// The byte that a terminal sends for Ctrl and `character`.
fn control_byte(character: char) -> Option<u8> {
    let byte = u8::try_from(character).ok()?;
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' => Some(byte & 0x1f),
        b' ' | b'@' | b'2' => Some(0),
        b'[' | b'3' => Some(0x1b),
        b'\\' | b'4' => Some(0x1c),
        b']' | b'5' => Some(0x1d),
        b'^' | b'6' => Some(0x1e),
        b'_' | b'/' | b'7' => Some(0x1f),
        b'?' | b'8' => Some(0x7f),
        _ => None,
    }
}

fn with_alt(bytes: &[u8], modifiers: KeyModifiers) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1);
    if modifiers.contains(KeyModifiers::ALT) {
        out.push(0x1b);
    }
    out.extend_from_slice(bytes);
    out
}

/// xterm's modifier parameter: 1 and a bit each for Shift, Alt, Ctrl; none when there are none.
fn parameter(modifiers: KeyModifiers) -> Option<u8> {
    let bit = |flag, value| u8::from(modifiers.contains(flag)) * value;
    let bits =
        bit(KeyModifiers::SHIFT, 1) + bit(KeyModifiers::ALT, 2) + bit(KeyModifiers::CONTROL, 4);
    (bits != 0).then_some(bits + 1)
}

fn encode_cursor(last: char, modifiers: KeyModifiers, modes: &Modes) -> Vec<u8> {
    match parameter(modifiers) {
        Some(parameter) => format!("\x1b[1;{parameter}{last}"),
        None if modes.application_cursor => format!("\x1bO{last}"),
        None => format!("\x1b[{last}"),
    }
    .into_bytes()
}

fn encode_tilde(number: u8, modifiers: KeyModifiers) -> Vec<u8> {
    match parameter(modifiers) {
        Some(parameter) => format!("\x1b[{number};{parameter}~"),
        None => format!("\x1b[{number}~"),
    }
    .into_bytes()
}

fn encode_function(number: u8, modifiers: KeyModifiers) -> Vec<u8> {
    if let 1..=4 = number {
        let last = char::from(b'P' + number - 1);
        return match parameter(modifiers) {
            Some(parameter) => format!("\x1b[1;{parameter}{last}"),
            None => format!("\x1bO{last}"),
        }
        .into_bytes();
    }
    // xterm's numbers have gaps after F5, F10, F14, F16.
    let code = match number {
        5 => 15,
        6..=10 => 11 + number,
        11..=14 => 12 + number,
        15..=16 => 13 + number,
        17..=20 => 14 + number,
        _ => return Vec::new(),
    };
    encode_tilde(code, modifiers)
}

fn encode_mouse(mouse: MouseEvent, modes: &Modes) -> Vec<u8> {
    if modes.mouse == MouseMode::Off {
        return encode_wheel_as_arrows(mouse, modes);
    }
    let Some((button, is_release)) = button_code(mouse.kind, modes.mouse) else {
        return Vec::new();
    };
    let bit = |flag, value| u8::from(mouse.modifiers.contains(flag)) * value;
    let code = button
        + bit(KeyModifiers::SHIFT, 4)
        + bit(KeyModifiers::ALT, 8)
        + bit(KeyModifiers::CONTROL, 16);
    let (column, row) = (mouse.column.saturating_add(1), mouse.row.saturating_add(1));
    if modes.sgr_mouse {
        let last = if is_release { 'm' } else { 'M' };
        return format!("\x1b[<{code};{column};{row}{last}").into_bytes();
    }
    // The old form cannot say which button was released.
    let code = if is_release { (code & !3) | 3 } else { code };
    let mut out = b"\x1b[M".to_vec();
    out.push(code + 32);
    for position in [column, row] {
        let value = u32::from(position) + 32;
        match (modes.utf8_mouse, u8::try_from(value)) {
            (true, _) => {
                let character = char::from_u32(value).unwrap_or(' ');
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            (false, Ok(byte)) => out.push(byte),
            (false, Err(_)) => return Vec::new(),
        }
    }
    out
}

/// On the alternate screen a program without mouse support gets the wheel as arrow keys.
fn encode_wheel_as_arrows(mouse: MouseEvent, modes: &Modes) -> Vec<u8> {
    let last = match mouse.kind {
        MouseEventKind::ScrollUp => 'A',
        MouseEventKind::ScrollDown => 'B',
        _ => return Vec::new(),
    };
    if !(modes.alternate_screen && modes.alternate_scroll) {
        return Vec::new();
    }
    encode_cursor(last, KeyModifiers::NONE, modes).repeat(3)
}

fn button_code(kind: MouseEventKind, mode: MouseMode) -> Option<(u8, bool)> {
    match kind {
        MouseEventKind::Down(button) => Some((button_number(button), false)),
        MouseEventKind::Up(button) => Some((button_number(button), true)),
        MouseEventKind::Drag(button) => {
            (mode != MouseMode::Clicks).then(|| (button_number(button) + 32, false))
        }
        MouseEventKind::Moved => (mode == MouseMode::Motion).then_some((35, false)),
        MouseEventKind::ScrollUp => Some((64, false)),
        MouseEventKind::ScrollDown => Some((65, false)),
        MouseEventKind::ScrollLeft => Some((66, false)),
        MouseEventKind::ScrollRight => Some((67, false)),
    }
}

fn button_number(button: MouseButton) -> u8 {
    match button {
        MouseButton::Left => 0,
        MouseButton::Middle => 1,
        MouseButton::Right => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: KeyCode, modifiers: KeyModifiers) -> Vec<u8> {
        encode(
            &Event::Key(KeyEvent::new(code, modifiers)),
            &Modes::default(),
        )
    }

    fn mouse(kind: MouseEventKind) -> Event {
        Event::Mouse(MouseEvent {
            kind,
            column: 9,
            row: 4,
            modifiers: KeyModifiers::NONE,
        })
    }

    #[test]
    fn keys_become_what_xterm_sends() {
        const NONE: KeyModifiers = KeyModifiers::NONE;
        const ALT: KeyModifiers = KeyModifiers::ALT;
        const CTRL: KeyModifiers = KeyModifiers::CONTROL;
        const SHIFT: KeyModifiers = KeyModifiers::SHIFT;
        for (code, modifiers, bytes) in [
            (KeyCode::Char('é'), NONE, "é"),
            (KeyCode::Char('x'), ALT, "\x1bx"),
            (KeyCode::Char('c'), CTRL, "\x03"),
            (KeyCode::Char('c'), CTRL.union(ALT), "\x1b\x03"),
            (KeyCode::Char(' '), CTRL, "\0"),
            (KeyCode::Char('4'), CTRL, "\x1c"),
            (KeyCode::Enter, NONE, "\r"),
            (KeyCode::Enter, ALT, "\x1b\r"),
            (KeyCode::BackTab, SHIFT, "\x1b[Z"),
            (KeyCode::Backspace, NONE, "\x7f"),
            (KeyCode::Up, NONE, "\x1b[A"),
            (KeyCode::Left, CTRL, "\x1b[1;5D"),
            (KeyCode::Delete, NONE, "\x1b[3~"),
            (KeyCode::PageUp, SHIFT, "\x1b[5;2~"),
            (KeyCode::F(1), NONE, "\x1bOP"),
            (KeyCode::F(5), NONE, "\x1b[15~"),
            (KeyCode::F(6), NONE, "\x1b[17~"),
            (KeyCode::F(10), NONE, "\x1b[21~"),
            (KeyCode::F(11), NONE, "\x1b[23~"),
            (KeyCode::F(12), NONE, "\x1b[24~"),
            (KeyCode::F(15), NONE, "\x1b[28~"),
            (KeyCode::F(17), NONE, "\x1b[31~"),
        ] {
            let encoded = String::from_utf8(key(code, modifiers)).unwrap();
            assert_eq!(encoded, bytes, "{code:?} {modifiers:?}");
        }
    }

    #[test]
    fn arrows_follow_the_application_mode() {
        let modes = Modes {
            application_cursor: true,
            ..Modes::default()
        };
        let up = Event::Key(KeyEvent::from(KeyCode::Up));
        assert_eq!(encode(&up, &modes), b"\x1bOA");
    }

    #[test]
    fn a_paste_cannot_end_itself_or_press_keys() {
        let modes = Modes {
            bracketed_paste: true,
            ..Modes::default()
        };
        let text = "a\x1b[201~\x03b\r\nc\u{9b}201~\td\x1b[20\x1b[201~1~";
        let pasted = String::from_utf8(paste(text, &modes)).unwrap();
        assert_eq!(pasted, "\x1b[200~a[201~b\rc201~\td[20[201~1~\x1b[201~");
    }

    #[test]
    fn mouse_and_focus_are_sent_only_in_their_modes() {
        let click = mouse(MouseEventKind::Down(MouseButton::Left));
        let moved = mouse(MouseEventKind::Moved);
        assert!(encode(&click, &Modes::default()).is_empty());
        assert!(encode(&Event::FocusGained, &Modes::default()).is_empty());
        let modes = Modes {
            mouse: MouseMode::Drag,
            sgr_mouse: true,
            focus_events: true,
            ..Modes::default()
        };
        assert_eq!(encode(&click, &modes), b"\x1b[<0;10;5M");
        assert!(encode(&moved, &modes).is_empty());
        assert_eq!(encode(&Event::FocusLost, &modes), b"\x1b[O");
        let old = Modes {
            mouse: MouseMode::Clicks,
            ..Modes::default()
        };
        let up = mouse(MouseEventKind::Up(MouseButton::Right));
        assert_eq!(encode(&up, &old), b"\x1b[M#*%");
    }
}
