//! The emulator under ordinary and hostile bytes.

use proptest::prelude::*;

use super::*;
use crate::pty::snapshot::row_text;

fn screen(columns: u16, rows: u16) -> Screen {
    Screen::new(Size::new(columns, rows), 100)
}

fn content(screen: &mut Screen) -> Snapshot {
    Snapshot {
        sequence: 0,
        ..screen.snapshot(0)
    }
}

#[test]
fn text_colours_and_the_cursor_are_shown() {
    let mut screen = screen(20, 3);
    screen.feed("a\x1b[1;31mred\x1b[0m 日e\u{301}".as_bytes());
    let shown = screen.snapshot(0);
    assert_eq!(shown.text(), "ared 日e\u{301}");
    let red = &shown.rows[0][1];
    assert_eq!(red.foreground, Colour::Indexed(1));
    assert!(red.flags.has(CellFlags::BOLD));
    assert!(shown.rows[0][5].flags.has(CellFlags::WIDE));
    assert_eq!(shown.cursor.map(|c| (c.column, c.row)), Some((8, 0)));
}

#[test]
fn the_sequence_changes_only_with_the_content() {
    let mut screen = screen(20, 3);
    screen.feed(b"x");
    let before = screen.sequence();
    screen.feed(b"\x1b[1;1Hx\x1b[0m");
    assert_eq!(screen.sequence(), before);
    screen.feed(b"y");
    assert!(screen.sequence() > before);
}

#[test]
fn unchanged_rows_are_shared_between_snapshots() {
    let mut screen = screen(20, 3);
    screen.feed(b"one\r\ntwo");
    let before = screen.snapshot(0);
    screen.feed(b"!");
    let after = screen.snapshot(0);
    assert!(Arc::ptr_eq(&before.rows[0], &after.rows[0]));
    assert!(!Arc::ptr_eq(&before.rows[1], &after.rows[1]));
}

#[test]
fn long_lines_survive_a_narrow_and_a_wide_window() {
    let mut screen = screen(60, 5);
    let line = "0123456789".repeat(5);
    screen.feed(format!("{line}\r\n$ ").as_bytes());
    screen.resize(Size::new(7, 10));
    assert_eq!(&*row_text(&screen.snapshot(usize::MAX).rows[0]), "0123456");
    screen.resize(Size::new(60, 5));
    assert!(screen.snapshot(usize::MAX).text().starts_with(&line));
}

#[test]
fn scrollback_is_bounded_and_can_be_looked_at() {
    let mut screen = screen(20, 3);
    for line in 0..500 {
        screen.feed(format!("line {line}\r\n").as_bytes());
    }
    assert_eq!(screen.history(), 100);
    assert_eq!(screen.snapshot(2).text(), "line 496\nline 497\nline 498");
    let oldest = screen.snapshot(usize::MAX);
    assert_eq!(oldest.offset, 100);
    assert!(oldest.text().starts_with("line 398"));
    assert_eq!(oldest.cursor, None);
}

#[test]
fn questions_are_answered_unless_the_screen_is_being_rebuilt() {
    let mut screen = screen(20, 3);
    screen.set_replies(false);
    screen.feed(b"\x1b[6n");
    assert!(screen.take_replies().is_empty());
    screen.set_replies(true);
    screen.feed(b"ab\x1b[6n\x1b]11;?\x07");
    assert_eq!(
        String::from_utf8(screen.take_replies()).unwrap(),
        "\x1b[1;3R\x1b]11;rgb:0000/0000/0000\x07"
    );
    screen.feed(&b"\x1b[6n".repeat(100_000));
    assert!(screen.take_replies().len() <= REPLIES_MAX);
}

#[test]
fn the_clipboard_is_never_touched_and_titles_are_plain_text() {
    let mut screen = screen(20, 3);
    screen.feed(b"\x1b]52;c;?\x07\x1b]52;c;aGk=\x07");
    assert!(screen.take_replies().is_empty());
    screen.feed("\x1b]2;a\u{9b}31mb\x07".as_bytes());
    assert_eq!(&*screen.snapshot(0).title, "a31mb");
}

#[test]
fn an_update_is_shown_when_it_ends_or_when_its_owner_ends_it() {
    let mut screen = screen(20, 3);
    screen.feed(b"\x1b[?2026hone");
    assert_eq!(screen.text(), "");
    screen.feed(b"\x1b[?2026l");
    assert_eq!(screen.text(), "one");
    screen.feed(b"\x1b[?2026h two");
    assert!(screen.update_pending());
    screen.end_update();
    assert!(!screen.update_pending());
    assert_eq!(screen.text(), "one two");
}

#[test]
fn modes_are_reported() {
    let mut screen = screen(20, 3);
    screen.feed(b"\x1b[?2004h\x1b[?1h\x1b[?1002h\x1b[?1006h\x1b[?1004h");
    let modes = screen.modes();
    assert!(modes.bracketed_paste && modes.application_cursor && modes.focus_events);
    assert_eq!((modes.mouse, modes.sgr_mouse), (MouseMode::Drag, true));
}

#[test]
fn piles_of_combining_characters_are_cut() {
    let mut screen = screen(20, 3);
    for _ in 0..2000 {
        screen.feed("\x1b[1;2Hx\x1b[1;2H\u{301}\u{301}".as_bytes());
    }
    let stored = screen.term.grid()[Line(0)][Column(0)]
        .zerowidth()
        .map_or(0, <[char]>::len);
    assert!(stored <= COMBINING_CHECK + COMBINING_MAX, "{stored}");
}

#[test]
fn hostile_streams_end_with_a_usable_screen() {
    let streams: [Vec<u8>; 6] = [
        [b"\x1b]0;".to_vec(), vec![b'x'; 10 << 20]].concat(),
        b"x\x1b[65535b".repeat(64 * 1024 / 9),
        [b"\x1b[".to_vec(), vec![b'9'; 1 << 20], b"A".to_vec()].concat(),
        b"\x1b[3g\x1b[65535I\x1b[65535Z".repeat(2000),
        b"\x1b[22t\x1b]0;title\x07".repeat(10_000),
        [b"\x1b[?2026h".to_vec(), vec![b'y'; 5 << 20]].concat(),
    ];
    for stream in streams {
        let mut screen = screen(80, 24);
        screen.feed(&stream);
        screen.end_update();
        screen.feed(b"\x1b\\\x18\x1bc\x1b[2J\x1b[Hstill here");
        assert_eq!(screen.text(), "still here");
    }
}

fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[ -~]{0,12}".prop_map(String::into_bytes),
        2 => "\\PC{0,6}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..12),
        4 => ("[0-9;:?]{0,8}", "[@-~]").prop_map(|(p, f)| format!("\x1b[{p}{f}").into_bytes()),
        1 => ("[0-9]{0,4}", "[ -~]{0,8}").prop_map(|(n, t)| format!("\x1b]{n};{t}\x07").into_bytes()),
        1 => Just(b"\x1b[?2026h".to_vec()),
        1 => Just(b"\x1b[?2026l".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => "\x1b[#-/]?[0-~]".prop_map(String::into_bytes),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(fragment(), 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_snapshot_is_the_same_whatever_the_chunks(
        bytes in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut whole = screen(17, 5);
        whole.feed(&bytes);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut cut = screen(17, 5);
        let mut start = 0;
        for end in cuts.into_iter().chain([bytes.len()]) {
            cut.feed(&bytes[start..end]);
            start = end;
        }
        prop_assert_eq!(content(&mut whole), content(&mut cut));
        prop_assert_eq!(whole.take_replies(), cut.take_replies());
    }

    #[test]
    fn any_bytes_and_sizes_are_survived(
        steps in prop::collection::vec((stream(), 0u16..60, 0u16..30), 1..8),
    ) {
        let mut screen = screen(30, 8);
        for (bytes, columns, rows) in steps {
            screen.feed(&bytes);
            screen.resize(Size::new(columns, rows));
            let shown = screen.snapshot(3);
            prop_assert_eq!(shown.rows.len(), usize::from(shown.size.rows));
            prop_assert!(shown.rows.iter().all(|row| row.len() == usize::from(shown.size.columns)));
        }
    }
}
