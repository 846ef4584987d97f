//! New settings while the loop runs: what must not be mixed with the old ones.

use super::*;
use crate::identity::{SignIn, Source};
use crate::server::assistants::{Assistant, Assistants};
use crate::system::child::Outcome;

/// The new key must not reach the old address, from no assistant either. Both change with a restart.
#[test]
fn a_service_at_another_address_waits_for_a_restart() {
    let mut port = 0;
    let with_assistant = |mut configuration: CallConfiguration| {
        let candidate = Chosen::new(configuration.candidate.candidate(Instant::now()));
        let (name, title) = ("cook".to_owned(), "Cook".to_owned());
        configuration.assistants = Assistants::new(vec![Assistant { name, title, candidate }]);
        configuration
    };
    let mut scene = Scene::new(|calls| {
        port = calls.configuration.candidate.target().port;
        calls.configuration = with_assistant(super::calls(port).configuration);
        calls.reread = Box::new(move || Ok(with_assistant(super::calls(port ^ 1).configuration)));
    });
    scene.server.reload(scene.now);
    let configuration = &mut scene.server.calls.as_mut().expect("it has some").configuration;
    assert_eq!(configuration.candidate.target().port, port);
    assert_eq!(configuration.assistants.find("cook").expect("it stays").target().port, port);
}

/// A token that was fetched for the sign-in of old settings comes too late.
#[test]
fn each_sign_in_has_tokens_of_its_own() {
    let mut scene = Scene::new(|_| ());
    let now = scene.now;
    let server = &mut scene.server;
    for (name, generation) in [("first", 0), ("second", 1), ("second", 1), ("third", 2)] {
        let source = Source::Command(vec![name.to_owned()]);
        let sign_in = SignIn { source, proxy: None, authorities: Vec::new() };
        server.calls.as_mut().expect("it has some").configuration.sign_in = Some(Rc::new(sign_in));
        server.change_sign_in(now);
        assert_eq!(server.tokens.as_ref().map(|tokens| tokens.generation), Some(generation));
    }
    let mut is_held = |generation| {
        let token = br#"{"access_token": "t", "expires_in": 3600}"#;
        server.signed_in(generation, Outcome::Done(token.to_vec()), now);
        server.tokens.as_ref().is_some_and(|tokens| tokens.held(now).is_some())
    };
    assert!(!is_held(0) && !is_held(1));
    assert!(is_held(2));
}
