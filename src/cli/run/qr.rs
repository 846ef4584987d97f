//! QR codes on a terminal, for a link that is tedious to type on a phone.

use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the code. Scanners need them, and ISO/IEC 18004 demands four.
const QUIET: i32 = 4;
/// Black on white, from the fixed part of the 256 colours. Themes do not change these, and many
/// scanners cannot read light on dark.
const COLOURS: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// `text` as a QR code, two modules per character cell, each line with its own colours and a line
/// break. A link of 78 characters takes 41 columns and 21 lines. `None` when the text is too long
/// for any code (2,953 bytes).
#[must_use]
pub fn terminal(text: &str) -> Option<String> {
    // A screen has no dirt, so the lowest error correction will do, which gives the smallest code.
    // A higher one is used if it fits.
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let range = -QUIET..code.size() + QUIET;
    let mut drawn = String::new();
    for y in range.clone().step_by(2) {
        drawn.push_str(COLOURS);
        for x in range.clone() {
            // Outside the code a module is light.
            drawn.push(match (code.get_module(x, y), code.get_module(x, y + 1)) {
                (false, false) => ' ',
                (true, false) => '▀',
                (false, true) => '▄',
                (true, true) => '█',
            });
        }
        drawn.push_str(RESET);
        drawn.push('\n');
    }
    Some(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The code of `https://pi.local:8443/` as the Python library `qrcode` draws it.
    const KNOWN: &str = "\
        #######.#.#####...#######\n\
        #.....#.#.#...#...#.....#\n\
        #.###.#..#.###.##.#.###.#\n\
        #.###.#.#..#.#..#.#.###.#\n\
        #.###.#..##.#..#..#.###.#\n\
        #.....#....#.##.#.#.....#\n\
        #######.#.#.#.#.#.#######\n\
        ........#..##.#.#........\n\
        #.##.###.#..#..##.#..#.##\n\
        #..##....###..#.#..#...#.\n\
        ..#.#####.###...###.#....\n\
        ###..#.###.#.#..##.#.##..\n\
        ..#...#.####.#.#..###.###\n\
        .###.......#...######...#\n\
        .###.#####..#....##.#.##.\n\
        #.#.##.#....#.#....##...#\n\
        ....#.#..#.#.##.#########\n\
        ........###.#...#...#.#.#\n\
        #######.#.#####.#.#.#.###\n\
        #.....#.##..#..##...#..##\n\
        #.###.#...####..######.#.\n\
        #.###.#.##..##..###.#####\n\
        #.###.#.#.####.####.#.##.\n\
        #.....#..##......##.#.#..\n\
        #######.###.#.#...#######\n";

    /// What was drawn, a line of `#` and `.` per row of modules.
    fn modules(drawn: &str) -> Vec<String> {
        let mut rows = Vec::new();
        for line in drawn.lines() {
            let cells = line.strip_prefix(COLOURS).and_then(|line| line.strip_suffix(RESET));
            let (mut upper, mut lower) = (String::new(), String::new());
            for cell in cells.expect("each line has its colours").chars() {
                upper.push(if matches!(cell, '▀' | '█') { '#' } else { '.' });
                lower.push(if matches!(cell, '▄' | '█') { '#' } else { '.' });
            }
            rows.extend([upper, lower]);
        }
        rows
    }

    #[test]
    fn a_link_is_drawn_as_others_draw_it() {
        let rows = modules(&terminal("https://pi.local:8443/").expect("a short text"));
        // Four light modules on each side; one more row, for two make a line.
        assert_eq!(rows.len(), 4 + 25 + 4 + 1);
        assert!(rows.iter().all(|row| row.len() == 4 + 25 + 4));
        let (top, rest) = rows.split_at(4);
        let (code, bottom) = rest.split_at(25);
        assert!(top.iter().chain(bottom).all(|row| !row.contains('#')));
        let inner: String = code.iter().map(|row| format!("{}\n", &row[4..29])).collect();
        assert_eq!(inner, KNOWN);
        assert!(code.iter().all(|row| row.starts_with("....") && row.ends_with("....")));
    }

    #[test]
    fn a_pairing_link_fits_a_small_terminal() {
        let link = format!("https://raspberrypi.local:8443/#token={}", "x".repeat(40));
        let rows = modules(&terminal(&link).expect("a short text"));
        assert!(rows[0].len() <= 80 && rows.len() / 2 <= 23, "{} by {}", rows[0].len(), rows.len());
    }

    #[test]
    fn too_long_a_text_has_no_code() {
        assert!(terminal(&"x".repeat(2953)).is_some());
        assert_eq!(terminal(&"x".repeat(2954)), None);
    }
}
