//! Calls over bad networks: real loss, delay, reordering and outages on either way of the daemon, in network namespaces.
//! What was heard at both ends is compared sample by sample. See `README.md` for what carries the packets.
//!
//! The scenes of one test run side by side, since they mostly wait. Each prints the longest gap that its caller has heard.

mod caller;
mod emulator;
mod link;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "shared")]
mod random;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod tap;

use std::time::Duration;

use scene::Scene;
use support::network;

/// The options of a link that is good.
const GOOD: &[&str] = &[];
/// Mobile data on a bad day.
const MOBILE: &[&str] = &["--delay=40", "--jitter=15", "--reorder=2", "--duplicate=1", "--loss=1"];
/// The far end of a house.
const LOSSY: &[&str] = &["--delay=5", "--jitter=5", "--loss=5"];

/// The question takes 3 s, and its answer begins a moment later. So after 1 s the user speaks, and
/// after 5 s the answer is being played.
const IN_THE_QUESTION: Duration = Duration::from_secs(1);
const IN_THE_ANSWER: Duration = Duration::from_secs(5);

/// What happens in a scene.
struct Act {
    name: &'static str,
    client: &'static [&'static str],
    service: &'static [&'static str],
    /// Nothing of the microphone is missing afterwards. An outage that is longer than what is kept of it
    /// costs some, which is counted.
    lossless: bool,
    act: fn(&mut Scene),
}

/// Plays the acts side by side in a network of their own, and fails if one has failed.
fn play(test: &str, acts: &'static [Act]) {
    if !network::is_own(test) {
        return;
    }
    network::run("ip link set lo up");
    let only = std::env::var("VOICELIVED_SCENE").unwrap_or_default();
    let running: Vec<_> = (1..)
        .zip(acts)
        .filter(|(_, act)| act.name.contains(&only))
        .map(|(number, act)| {
            let play = move || {
                let mut scene = Scene::new(number, act.client, act.service);
                (act.act)(&mut scene);
                scene.finish(act.name, act.lossless);
            };
            let thread = std::thread::Builder::new().name(act.name.to_owned()).spawn(play);
            (act.name, thread.expect("a thread"))
        })
        .collect();
    let ends = running.into_iter().map(|(name, thread)| (name, thread.join()));
    let failed: Vec<_> = ends.filter(|(_, end)| end.is_err()).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn three_turns(scene: &mut Scene) {
    for _ in 0..3 {
        scene.take_a_whole_turn();
    }
}

#[test]
fn a_call_goes_on_over_a_bad_way_to_the_service() {
    play("a_call_goes_on_over_a_bad_way_to_the_service", ACTS_OF_THE_SERVICE);
}

const ACTS_OF_THE_SERVICE: &[Act] = &[
    Act {
        name: "service, 1 % loss",
        client: GOOD,
        service: MOBILE,
        lossless: true,
        act: three_turns,
    },
    Act {
        name: "service, 5 % loss",
        client: GOOD,
        service: LOSSY,
        lossless: true,
        act: three_turns,
    },
    Act {
        name: "service, 10 s outage in an answer",
        client: GOOD,
        service: MOBILE,
        lossless: true,
        act: |scene| {
            scene.take_a_whole_turn();
            scene.take_a_turn(IN_THE_ANSWER, |scene| scene.service_outage(10));
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "service, 10 s outage in a question",
        client: GOOD,
        service: GOOD,
        lossless: true,
        act: |scene| {
            scene.take_a_whole_turn();
            scene.take_a_turn(IN_THE_QUESTION, |scene| scene.service_outage(10));
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "service, 25 s outage in an answer",
        client: GOOD,
        service: GOOD,
        lossless: false,
        act: |scene| {
            scene.take_a_turn(IN_THE_ANSWER, |scene| scene.service_outage(25));
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "service, 25 s outage in a question",
        client: GOOD,
        service: GOOD,
        lossless: false,
        act: |scene| {
            scene.take_a_turn(IN_THE_QUESTION, |scene| scene.service_outage(25));
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "service, another address in an answer",
        client: GOOD,
        service: GOOD,
        lossless: true,
        act: |scene| {
            scene.take_a_turn(IN_THE_ANSWER, Scene::move_daemon);
            scene.take_a_whole_turn();
        },
    },
];

#[test]
fn a_call_goes_on_over_a_bad_way_to_the_client() {
    play("a_call_goes_on_over_a_bad_way_to_the_client", ACTS_OF_THE_CLIENT);
}

const ACTS_OF_THE_CLIENT: &[Act] = &[
    Act {
        name: "client, 1 % loss",
        client: MOBILE,
        service: GOOD,
        lossless: true,
        act: three_turns,
    },
    Act {
        name: "client, 5 % loss",
        client: LOSSY,
        service: GOOD,
        lossless: true,
        act: three_turns,
    },
    Act {
        name: "client, 10 s outage in an answer",
        client: MOBILE,
        service: GOOD,
        lossless: false,
        act: |scene| {
            scene.take_a_whole_turn();
            scene.take_a_turn(IN_THE_ANSWER, |scene| scene.client_outage(10));
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "client, 10 s outage in a question",
        client: GOOD,
        service: GOOD,
        lossless: false,
        act: |scene| {
            scene.take_a_whole_turn();
            scene.take_a_turn(IN_THE_QUESTION, |scene| scene.client_outage(10));
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "client, 25 s outage in an answer",
        client: GOOD,
        service: GOOD,
        lossless: false,
        act: |scene| {
            scene.take_a_turn(IN_THE_ANSWER, |scene| scene.client_outage(25));
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "client, another address in an answer",
        client: GOOD,
        service: GOOD,
        lossless: true,
        act: |scene| {
            scene.take_a_turn(IN_THE_ANSWER, Scene::move_client);
            scene.take_a_whole_turn();
        },
    },
    Act {
        name: "client, another address in a question",
        client: GOOD,
        service: GOOD,
        lossless: true,
        act: |scene| {
            scene.take_a_turn(IN_THE_QUESTION, Scene::move_client);
            scene.take_a_whole_turn();
        },
    },
];
