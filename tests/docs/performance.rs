//! The first table of `docs/performance.md`, held against the figures below it: `make bench` writes
//! both, and nobody may change one alone.

use super::read;

const PAGE: &str = "docs/performance.md";

/// The rows of a table as cells, its head first.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The median in a cell: what comes before the smallest and largest in brackets.
fn median<'a>(page: &'a str, section: &str, relay: &str, column: &str) -> &'a str {
    let text = page.split(&format!("\n### {section}\n")).nth(1).expect(section);
    let rows = rows(text.split("\n#").next().expect("a table"));
    let at = rows[0].iter().position(|head| *head == column).expect(column);
    let row = rows.iter().find(|row| row[0] == relay).expect(relay);
    row[at].split(" (").next().expect("a figure")
}

#[test]
fn the_first_table_says_what_the_figures_say() {
    let page = read(PAGE);
    let summary = page.split("<!-- summary: written by `make bench` -->").nth(1).expect("a mark");
    let summary = rows(summary.split("<!-- end of summary -->").next().expect("a mark"));
    let columns = [
        ("Calls on one core", "≤ 50 ms"),
        ("Memory and start", "talking"),
        ("Memory and start", "RSS idle MiB"),
        ("50 calls in real time", "p99"),
        ("64 calls as fast as they go", "CPU µs a frame there and back"),
    ];
    assert_eq!(summary.len(), 5, "a head and four relays");
    for row in &summary[1..] {
        let expected = columns.map(|(section, column)| median(&page, section, row[0], column));
        assert_eq!(row[1..], expected, "{PAGE}: {}", row[0]);
    }
}

/// What a reader came for stands at the top: three sentences, then that table.
#[test]
fn the_page_begins_with_three_sentences_and_a_table() {
    let page = read(PAGE);
    let begin = page.split("<!-- summary").next().expect("a beginning");
    assert_eq!(begin.matches(". ").count() + begin.matches(".\n").count(), 3, "{begin}");
}
