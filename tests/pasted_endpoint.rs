//! An endpoint that was pasted with its query: model and version of the query count where the settings
//! say nothing, the log and `check` say so, and a contradiction is an error.

use crate::support;
use support::asked::{PATH, check};
use support::client::Client;
use support::daemon::Daemon;
use support::service::Service;

#[test]
fn what_the_query_says_counts_where_the_settings_are_silent() {
    for (query, settings, target, notes) in [
        (
            "?api-version=2026-04-10&model=gpt-4.1",
            &[][..],
            "?api-version=2026-04-10&model=gpt-4.1",
            &[
                "VOICE_LIVE_MODEL is not set, so the model \"gpt-4.1\" of its query counts",
                "AZURE_VOICE_LIVE_API_VERSION is not set, so the api-version \"2026-04-10\"",
            ][..],
        ),
        ("?model=gpt-realtime", &[], "?api-version=2026-07-15&model=gpt-realtime", &["the model"]),
        ("?MODEL=gpt%2D5&x=y", &[], "?api-version=2026-07-15&model=gpt-5&x=y", &["\"gpt-5\""]),
        ("?deployment=ours", &[], "?api-version=2026-07-15&model=ours", &["\"ours\""]),
        (
            "?api-version=v1",
            &[("VOICE_LIVE_MODEL", "gpt-4.1")],
            "?api-version=v1&model=gpt-4.1",
            &["the api-version \"v1\""],
        ),
        (
            "?profile=byom-azure-openai-realtime&model=ours",
            &[],
            "?api-version=2026-07-15&model=ours&profile=byom-azure-openai-realtime",
            &["the model \"ours\""],
        ),
    ] {
        let asked = check(&format!("{PATH}{query}"), settings);
        assert_eq!(asked.code, Some(0), "{query}: {}", asked.told);
        assert_eq!(asked.target, format!("{PATH}{target}"), "{query}");
        for note in notes {
            assert!(asked.told.contains(note), "{query}: {note}: {}", asked.told);
        }
    }
    // The same as the settings, or as the defaults, is nothing to talk of.
    let asked = check(
        &format!("{PATH}?api-version=2026-07-15&model=gpt-4.1"),
        &[("VOICE_LIVE_MODEL", "gpt-4.1")],
    );
    assert!(asked.code == Some(0) && !asked.told.contains("of its query"), "{}", asked.told);
    // The version of another API means nothing here; its model does.
    let asked =
        check("/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-realtime", &[]);
    assert_eq!(asked.target, format!("{PATH}?api-version=2026-07-15&model=gpt-realtime"));
}

#[test]
fn a_query_that_contradicts_a_setting_is_an_error_that_names_both() {
    for (query, settings, parts) in [
        (
            "?model=gpt-4.1",
            &[("VOICE_LIVE_MODEL", "gpt-realtime")][..],
            &[
                "AZURE_VOICE_LIVE_ENDPOINT (environment)",
                "model=\"gpt-4.1\"",
                "VOICE_LIVE_MODEL (environment)",
            ][..],
        ),
        (
            "?model=gpt-4.1",
            &[("AZURE_VOICELIVE_MODEL", "gpt-5,gpt-4.1")],
            &["contradicts AZURE_VOICELIVE_MODEL (environment)"],
        ),
        (
            "?api-version=2025-10-01",
            &[("AZURE_VOICE_LIVE_API_VERSION", "2026-07-15")],
            &["contradicts AZURE_VOICE_LIVE_API_VERSION (environment)"],
        ),
        ("?model=a&model=b", &[], &["two values of model", "\"a\"", "\"b\""]),
        ("?model=a&deployment=b", &[], &["two values of model"]),
        ("?model=a%20b", &[], &["VOICE_LIVE_MODEL", "must not hold blanks"]),
        (
            "?agent-name=a&agent-project-name=p",
            &[("VOICE_LIVE_MODEL", "gpt-4.1")],
            &["names an agent", "VOICE_LIVE_MODEL (environment)"],
        ),
    ] {
        let asked = check(&format!("{PATH}{query}"), settings);
        assert_eq!(asked.code, Some(78), "{query}: {}", asked.told);
        assert_eq!(asked.target, "", "{query}: nothing is asked for");
        for part in parts {
            assert!(asked.told.contains(part), "{query}: {part}: {}", asked.told);
        }
    }
}

#[test]
fn an_agent_in_the_query_is_asked_for_without_model_instructions_and_tools() {
    let query = "?agent-name=a&agent-project-name=p%20q&model=gpt-4.1";
    let asked = check(&format!("{PATH}{query}"), &[("AZURE_VOICE_LIVE_INSTRUCTIONS", "Be brief.")]);
    assert_eq!(asked.code, Some(0), "{}", asked.told);
    assert_eq!(
        asked.target,
        format!("{PATH}?api-version=2026-07-15&agent-name=a&agent-project-name=p%20q")
    );
    for key in ["instructions", "tools", "tool_choice"] {
        assert!(asked.session.get(key).is_none(), "{key}");
    }
    assert!(asked.told.contains("an agent is named in its query"), "{}", asked.told);
    assert!(asked.told.contains("AZURE_VOICE_LIVE_INSTRUCTIONS (environment): not sent"));

    let service = Daemon::simulate(&["no-welcome"]);
    let endpoint = format!("ws://{}{PATH}?agent-name=a&agent-project-name=p", service.address);
    let daemon = Daemon::run_at(&endpoint, &[]);
    Client::connect(daemon.address).wait_until_active();
}

/// As other programs' settings name them, which the service does not know.
#[test]
fn an_agent_is_understood_in_other_spellings() {
    let expected = format!("{PATH}?api-version=2026-07-15&agent-name=a%20b&agent-project-name=p");
    for query in [
        "?agent_name=a%20b&agent_project_name=p",
        "?agent_name=a%20b&project_name=p&model=gpt-4.1",
        "?Agent-Name=a%20b&project-name=p",
        "?AGENT_NAME=a%20b&PROJECT_NAME=p",
    ] {
        let asked = check(&format!("{PATH}{query}"), &[]);
        assert_eq!((asked.code, &asked.target), (Some(0), &expected), "{query}: {}", asked.told);
        assert!(asked.session.get("tools").is_none(), "{query}");
        let settings = [("AZURE_VOICE_LIVE_AGENT_NAME", "c")];
        let asked = check(&format!("{PATH}{query}"), &settings);
        assert_eq!((asked.code, &*asked.target), (Some(78), ""), "{query}: {}", asked.told);
        assert!(asked.told.contains("contradicts AZURE_VOICE_LIVE_AGENT_NAME"), "{}", asked.told);
    }
    // A classic agent's parameters stay as the service's own page writes them.
    let asked = check(&format!("{PATH}?agent_id=asst_1&project_id=p"), &[]);
    let expected = format!("{PATH}?api-version=2026-07-15&agent_id=asst_1&project_id=p");
    assert_eq!(asked.target, expected, "{}", asked.told);
    for secret in ["api_key=k9", "agent_access_token=k9", "Api-Key=k9"] {
        let asked = check(&format!("{PATH}?{secret}"), &[]);
        assert_eq!(asked.code, Some(78), "{secret}: {}", asked.told);
        assert!(asked.told.contains("in its query, where it would be logged"), "{}", asked.told);
        assert!(!asked.told.contains("k9"), "{}", asked.told);
    }
}

#[test]
fn the_log_says_where_the_model_came_from() {
    let service = Service::new();
    let endpoint = format!("ws://{}{PATH}?model=gpt-4.1", service.address);
    let daemon = Daemon::run_at(&endpoint, &[]);
    daemon
        .wait_for_log("VOICE_LIVE_MODEL is not set, so the model \"gpt-4.1\" of its query counts");
    Client::connect(daemon.address).wait_until_active();
    assert!(service.calls()[0].head.contains("&model=gpt-4.1 "), "{}", service.calls()[0].head);
}
