//! The colours that an agent is told when it asks for ours: a plain dark terminal.

use alacritty_terminal::vte::ansi::Rgb;

const BASE: [(u8, u8, u8); 16] = [
    (0x00, 0x00, 0x00),
    (0xcd, 0x00, 0x00),
    (0x00, 0xcd, 0x00),
    (0xcd, 0xcd, 0x00),
    (0x00, 0x00, 0xee),
    (0xcd, 0x00, 0xcd),
    (0x00, 0xcd, 0xcd),
    (0xe5, 0xe5, 0xe5),
    (0x7f, 0x7f, 0x7f),
    (0xff, 0x00, 0x00),
    (0x00, 0xff, 0x00),
    (0xff, 0xff, 0x00),
    (0x5c, 0x5c, 0xff),
    (0xff, 0x00, 0xff),
    (0x00, 0xff, 0xff),
    (0xff, 0xff, 0xff),
];

/// xterm's colour `index`; 256 is the foreground, 257 the background, 258 the cursor.
pub(super) fn colour(index: usize) -> Rgb {
    let (r, g, b) = match index {
        0..16 => BASE.get(index).copied().unwrap_or_default(),
        16..232 => cube(index - 16),
        232..=255 => grey(index - 232),
        257 => (0, 0, 0),
        _ => (0xe5, 0xe5, 0xe5),
    };
    Rgb { r, g, b }
}

/// xterm's 6×6×6 cube: 0, then 95 to 255 in steps of 40.
fn cube(index: usize) -> (u8, u8, u8) {
    let level = |step: usize| match u8::try_from(step % 6).unwrap_or(0) {
        0 => 0,
        step => 55 + 40 * step,
    };
    (level(index / 36), level(index / 6), level(index))
}

/// xterm's grey ramp: 8 to 238 in steps of 10.
fn grey(index: usize) -> (u8, u8, u8) {
    let level = 8 + 10 * u8::try_from(index.min(23)).unwrap_or(23);
    (level, level, level)
}
