//! A Foundry agent holds the conversation in place of a model, asked for by settings: what the service is
//! asked, what is left to the agent, and who is told of it.

use crate::support;
use support::asked::{PATH, check};
use support::client::Client;
use support::daemon::Daemon;

const NAME: (&str, &str) = ("AZURE_VOICE_LIVE_AGENT_NAME", "front desk");
const PROJECT: (&str, &str) = ("AZURE_VOICE_LIVE_PROJECT_NAME", "hotel");

#[test]
fn settings_ask_for_an_agent_without_model_instructions_tools_and_voice() {
    let file = std::env::temp_dir().join(format!("voicelived-agent-{}.json", std::process::id()));
    std::fs::write(&file, r#"{"instructions": "of the file", "temperature": 0.7}"#)
        .expect("a file");
    let asked = check(
        "",
        &[
            NAME,
            PROJECT,
            ("AZURE_VOICE_LIVE_AGENT_VERSION", "3"),
            ("AZURE_VOICE_LIVE_CONVERSATION_ID", "c/1"),
            ("AZURE_VOICE_LIVE_AGENT_AUTHENTICATION_IDENTITY_CLIENT_ID", "id"),
            // The SDK's spelling.
            ("AZURE_VOICELIVE_FOUNDRY_RESOURCE_OVERRIDE", "other"),
            ("AZURE_VOICE_LIVE_INSTRUCTIONS", "Be brief."),
            ("VOICE_LIVE_MODEL", "gpt-4.1"),
            ("AZURE_VOICE_LIVE_SESSION_FILE", file.to_str().expect("a plain path")),
        ],
    );
    assert_eq!(asked.code, Some(0), "{}", asked.told);
    assert_eq!(
        asked.target,
        format!(
            "{PATH}?api-version=2026-07-15&agent-name=front%20desk&agent-project-name=hotel&agent-version=3\
             &conversation-id=c%2F1&agent-authentication-identity-client-id=id&foundry-resource-override=other"
        )
    );
    for key in ["instructions", "tools", "tool_choice", "voice", "model"] {
        assert!(asked.session.get(key).is_none(), "{key}: {}", asked.session);
    }
    assert_eq!(asked.session["temperature"], 0.7);
    for told in [
        "agent           front desk\n",
        "AZURE_VOICE_LIVE_INSTRUCTIONS (environment): not sent",
        "instructions in AZURE_VOICE_LIVE_SESSION_FILE: not sent",
        "VOICE_LIVE_MODEL (environment): not used",
        "may refuse the key",
    ] {
        assert!(asked.told.contains(told), "{told}: {}", asked.told);
    }
}

#[test]
fn a_voice_that_the_owner_has_set_is_sent() {
    let asked = check("", &[NAME, PROJECT, ("AZURE_VOICE_LIVE_VOICE", "en-US-AvaNeural")]);
    assert_eq!(asked.session["voice"]["name"], "en-US-AvaNeural", "{}", asked.told);
}

#[test]
fn settings_and_a_pasted_query_complete_each_other_and_must_not_differ() {
    let pasted = format!("{PATH}?agent-name=front%20desk&agent-project-name=hotel&agent-version=3");
    let asked = check(&pasted, &[NAME, ("AZURE_VOICE_LIVE_CONVERSATION_ID", "c")]);
    assert_eq!(asked.code, Some(0), "{}", asked.told);
    for part in ["agent-name=", "agent-project-name=", "agent-version=3", "conversation-id=c"] {
        assert_eq!(asked.target.matches(part).count(), 1, "{part}: {}", asked.target);
    }
    for (path, settings, told) in [
        (
            &*pasted,
            &[("AZURE_VOICE_LIVE_AGENT_NAME", "other")][..],
            "agent-name=\"front desk\" in its query, which contradicts AZURE_VOICE_LIVE_AGENT_NAME",
        ),
        (&pasted, &[NAME, ("AZURE_VOICELIVE_AGENT_VERSION", "4")], "AZURE_VOICELIVE_AGENT_VERSION"),
        (
            "",
            &[NAME],
            "AZURE_VOICE_LIVE_PROJECT_NAME: is not set, but AZURE_VOICE_LIVE_AGENT_NAME is",
        ),
        (
            "",
            &[PROJECT],
            "AZURE_VOICE_LIVE_AGENT_NAME: is not set, but AZURE_VOICE_LIVE_PROJECT_NAME",
        ),
        (
            "",
            &[("AZURE_VOICE_LIVE_CONVERSATION_ID", "c")],
            "AZURE_VOICE_LIVE_AGENT_NAME: is not set, but AZURE_VOICE_LIVE_CONVERSATION_ID is",
        ),
    ] {
        let asked = check(path, settings);
        assert_eq!((asked.code, &*asked.target), (Some(78), ""), "{settings:?}: {}", asked.told);
        assert!(asked.told.contains(told), "{told}: {}", asked.told);
    }
}

#[test]
fn the_client_and_the_log_are_told_its_name() {
    let service = Daemon::simulate(&["no-welcome"]);
    let pasted = "?agent-name=front%20desk&agent-project-name=hotel";
    for (query, settings) in [("", &[NAME, PROJECT][..]), (pasted, &[])] {
        let endpoint = format!("ws://{}{PATH}{query}", service.address);
        let daemon = Daemon::run_at(&endpoint, settings);
        let mut client = Client::connect(daemon.address);
        let hello = client.wait_for_next("hello");
        assert_eq!(hello["assistant"], "front desk", "{hello}");
        client.wait_until_active();
        daemon.wait_for_log("to the agent front desk");
    }
    let daemon = Daemon::run(service.address, &[]);
    let hello = Client::connect(daemon.address).wait_for_next("hello");
    assert!(hello.get("assistant").is_none(), "{hello}");
}

#[test]
fn a_refused_key_is_told_as_an_agents() {
    for status in ["401", "403"] {
        let service = Daemon::simulate(&[&format!("refuse={status}")]);
        let daemon = Daemon::run_at(&format!("ws://{}", service.address), &[NAME, PROJECT]);
        let word = if status == "401" { "unauthorized" } else { "forbidden" };
        let message = Client::connect(daemon.address).assert_ends(status, 1011, word);
        assert!(message.contains("meant for Entra ID"), "{message}");
    }
}
