//! The page in another page's frame: nobody may, unless the owner lists an origin, and then no more than that.

use std::process::Command;

use crate::support;
use support::client::{request, upgrade_head};
use support::daemon::Daemon;
use support::http::{Answer, ask};

const TOKEN: &str = "correct-horse-battery-staple";
const DASHBOARD: &str = "https://home.example:8123";

fn daemon(ancestors: &str) -> Daemon {
    Daemon::demo(&[
        ("VOICELIVED_ACCESS_TOKEN", TOKEN),
        ("VOICELIVED_ACCESS", "token"),
        ("VOICELIVED_FRAME_ANCESTORS", ancestors),
    ])
}

fn pair(daemon: &Daemon, fields: &str) -> Answer {
    ask(daemon.address, "GET /pair", fields)
}

fn right() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

#[test]
fn without_the_setting_no_page_may_frame_it_and_the_cookie_stays_at_home() {
    let daemon = daemon("");
    for path in ["/", "/app.js", "/style.css"] {
        let policy = ask(daemon.address, &format!("GET {path}"), "");
        let policy = policy.field("Content-Security-Policy");
        assert!(policy.contains("; frame-ancestors 'none';"), "{path}: {policy}");
    }
    let cookie = pair(&daemon, &right());
    assert!(cookie.field("Set-Cookie").contains("; SameSite=Strict;"), "{cookie:?}");
    assert!(!cookie.field("Set-Cookie").contains("Partitioned"), "{cookie:?}");
}

#[test]
fn listed_origins_may_frame_it_and_the_browser_keeps_its_cookie_apart_for_each() {
    let daemon = daemon("HTTPS://Home.Example:8123/ https://other.example:443");
    let page = ask(daemon.address, "GET /", "");
    assert_eq!(
        page.field("Content-Security-Policy"),
        "default-src 'self'; base-uri 'none'; frame-ancestors https://home.example:8123 \
         https://other.example; form-action 'none'"
    );
    assert_eq!(page.field("Permissions-Policy"), "microphone=(self)", "it is asked for as before");
    assert_eq!(page.field("X-Frame-Options"), "", "it knows no list");
    let paired = pair(&daemon, &right());
    let cookie = paired.field("Set-Cookie");
    let attributes = "; Path=/; Secure; HttpOnly; SameSite=None; Partitioned; Max-Age=34560000";
    assert!(cookie.starts_with("__Host-voicelived=") && cookie.ends_with(attributes), "{cookie}");
    let shown = format!("Cookie: {}\r\n", cookie.split(';').next().expect("a pair"));
    assert_eq!(pair(&daemon, &shown).status, 204, "it lets in");
    let own = format!("{shown}Origin: http://{}\r\n", daemon.address);
    let call = |fields: &str| request(daemon.address, &upgrade_head(daemon.address, fields)).1;
    assert!(call(&own).starts_with("HTTP/1.1 101 "), "the page in the frame calls as itself");
    // The page around it may show it, and not call in its place.
    for origin in [DASHBOARD, "https://other.example", "null", "https://evil.example"] {
        let foreign = format!("{shown}Origin: {origin}\r\n");
        assert!(call(&foreign).starts_with("HTTP/1.1 403 "), "{origin}");
        assert_eq!(pair(&daemon, &foreign).status, 403, "{origin}");
    }
}

/// A browser may still have the cookie from before the setting: to it that is another one.
#[test]
fn a_wrong_cookie_is_taken_back_in_both_forms() {
    let daemon = daemon(DASHBOARD);
    let head = format!(
        "GET /pair HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nCookie: __Host-voicelived=0\r\n\r\n",
        daemon.address
    );
    let (_, answer) = request(daemon.address, &head);
    let taken: Vec<_> = answer.lines().filter(|line| line.starts_with("Set-Cookie: ")).collect();
    assert_eq!(taken.len(), 2, "{answer}");
    assert!(
        taken
            .iter()
            .all(|line| line.contains("__Host-voicelived=;") && line.ends_with("Max-Age=0"))
    );
    assert!(
        taken[0].contains("SameSite=Strict") && taken[1].contains("; Partitioned;"),
        "{answer}"
    );
}

#[test]
fn what_is_no_origin_does_not_get_into_the_policy() {
    for bad in ["*", "'self'", "https://*.example", "https://a.example;script-src", "app://home"] {
        let output = Command::new(env!("CARGO_BIN_EXE_voicelived"))
            .args(["demo", "--listen", "127.0.0.1:0"])
            .env_clear()
            .env("VOICELIVED_FRAME_ANCESTORS", bad)
            .current_dir(std::env::temp_dir())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{bad}: {text}");
        assert!(text.contains("VOICELIVED_FRAME_ANCESTORS"), "{text}");
    }
}

/// Browsers give a frame no microphone when the page around it came over plain HTTP.
#[test]
fn a_page_whose_frame_gets_no_microphone_is_named_in_the_log() {
    let daemon = daemon("http://home.local:8123 http://localhost:8123");
    let log = daemon.log();
    assert!(log.contains("http://home.local:8123 is not https"), "{log}");
    assert!(!log.contains("http://localhost:8123 is not https"), "{log}");
}
