//! `tests/data/origins.jsonl`: which clients may open a call, by their `Host` and `Origin`.
//!
//! One row a line: `listener`, `extra` (`VOICELIVED_ALLOWED_ORIGINS`), `names` and `addresses`
//! (of the device),
//! the `host` and `origin` fields, `expect` (`admit` or the status), `note`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support;
use serde_json::Value;
use support::client::request;
use support::daemon::Daemon;
use voicelived::access::{Gate, Origin};
use voicelived::net::http::{self, ParsedHead};

/// Rows of this listener also meet the real daemon, on another port.
const REAL: &str = "http://127.0.0.1:8000";

fn rows() -> Vec<Value> {
    let text = include_str!("data/origins.jsonl");
    let rows: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(rows.len() >= 80, "{} rows", rows.len());
    rows
}

fn texts(row: &Value, key: &str) -> Vec<String> {
    let items = row[key].as_array().into_iter().flatten();
    items.map(|item| item.as_str().expect("a string").to_owned()).collect()
}

/// A handshake with the row's fields.
fn head(row: &Value) -> String {
    let lines = |name: &str, key: &str| -> String {
        texts(row, key).iter().map(|value| format!("{name}: {value}\r\n")).collect()
    };
    format!(
        "GET /ws HTTP/1.1\r\n{}{}Upgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        lines("Host", "host"),
        lines("Origin", "origin")
    )
}

#[test]
fn the_gate_judges_as_the_table_says() {
    for row in rows() {
        let (scheme, address) = row["listener"].as_str().unwrap().split_once("://").unwrap();
        let extra = texts(&row, "extra").iter().filter_map(|text| Origin::parse(text)).collect();
        let address = address.parse().expect("an address");
        let mut gate = Gate::new(scheme == "https", address, extra);
        let addresses: Vec<_> =
            texts(&row, "addresses").iter().map(|text| text.parse().expect("an address")).collect();
        gate.set_device_names(&texts(&row, "names"), &addresses);
        let found = match http::parse(head(&row).as_bytes()) {
            ParsedHead::Bad(status) => status.0.to_string(),
            ParsedHead::Complete(request, _) if !gate.admits_host(&request.host) => {
                "421".to_owned()
            }
            ParsedHead::Complete(request, _)
                if !gate.admits_origin(&request.origins, &request.host) =>
            {
                "403".to_owned()
            }
            ParsedHead::Complete(..) => "admit".to_owned(),
            ParsedHead::Partial => "partial".to_owned(),
        };
        assert_eq!(found, row["expect"], "{row}");
    }
}

#[test]
fn the_daemon_judges_as_the_table_says_and_dials_only_for_the_admitted() {
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows().into_iter().filter(|row| row["listener"] == REAL) {
        groups.entry(texts(&row, "extra").join(" ")).or_default().push(row);
    }
    for (extra, rows) in groups {
        let service = Daemon::simulate(&[]);
        let settings = [
            ("VOICELIVED_ALLOWED_ORIGINS", extra.as_str()),
            ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "16"),
        ];
        let daemon = Daemon::run(service.address, &settings);
        let dialled = || service.log().matches("a client has connected").count();
        let (admitted, refused): (Vec<_>, Vec<_>) =
            rows.iter().partition(|row| row["expect"] == "admit");
        for row in &refused {
            let (_, answer) = request(daemon.address, &real_head(row, daemon.address));
            let expected = format!("HTTP/1.1 {} ", row["expect"].as_str().unwrap());
            assert!(answer.starts_with(&expected), "{row}: {answer}");
        }
        assert_eq!(dialled(), 0, "{}", service.log());
        for (before, row) in admitted.iter().enumerate() {
            let (_call, answer) = request(daemon.address, &real_head(row, daemon.address));
            assert!(answer.starts_with("HTTP/1.1 101 "), "{row}: {answer}");
            service.wait_until("the service is dialled", |_| dialled() > before);
        }
        assert_eq!(dialled(), admitted.len(), "{}", service.log());
    }
}

fn real_head(row: &Value, address: SocketAddr) -> String {
    head(row).replace("8000", &address.port().to_string())
}
