//! Calls over bad networks: real loss, delay, reordering and outages on either way of the daemon, in network namespaces.
//! What was heard at both ends is compared sample by sample. See `README.md` for what carries the packets.
//!
//! The scenes of one test run side by side, since they mostly wait. Each prints the longest gap that its caller has heard.

mod caller;
mod emulator;
mod link;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod tap;

use std::time::Duration;

use scene::Scene;
use support::network;
use support::random::Random;

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
    let only = std::env::var("VOICELIVED_SCENE").unwrap_or_default();
    let scenes = (1..).zip(acts).filter(|(_, act)| act.name.contains(&only));
    side_by_side(test, scenes, |(number, act)| {
        let mut scene = Scene::new(number, act.client, act.service);
        (act.act)(&mut scene);
        scene.finish(act.name, act.lossless);
    });
}

/// Plays scenes side by side in a network of their own, and fails if one has failed.
fn side_by_side<T: Send + 'static>(test: &str, scenes: impl Iterator<Item = T>, scene: fn(T)) {
    if !network::is_own(module_path!(), test) {
        return;
    }
    network::run("ip link set lo up");
    let running: Vec<_> = scenes.map(|it| std::thread::spawn(move || scene(it))).collect();
    let failed = running.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(failed, 0, "so many scenes have failed");
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
        name: "service, 25 s outage for one who types",
        client: GOOD,
        service: GOOD,
        lossless: true,
        act: |scene| scene.type_in_an_outage(25),
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

/// Three questions, each with a mishap at a random moment of it or of its answer.
#[test]
fn a_call_goes_on_whatever_happens_to_both_ways() {
    let chosen = std::env::var("VOICELIVED_SEED").ok();
    let (first, last) =
        chosen.as_deref().map_or(("1", "5"), |it| it.split_once('-').unwrap_or((it, it)));
    let seeds =
        first.parse::<u8>().expect("a small number")..=last.parse().expect("a small number");
    side_by_side("a_call_goes_on_whatever_happens_to_both_ways", seeds, |seed| {
        let mut random = Random::new(seed.into());
        let mut scene = Scene::new(seed, GOOD, GOOD);
        for _ in 0..3 {
            let moment = Duration::from_millis(random.range(1_000, 6_000) as u64);
            scene.take_a_turn(moment, |scene| scene.mishap(&mut random));
        }
        scene.heal();
        scene.catch_up();
        scene.take_a_whole_turn();
        scene.finish(&format!("both, seed {seed}"), false);
    });
}
