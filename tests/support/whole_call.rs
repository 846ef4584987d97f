//! What the tests of whole calls by seeds share: which seeds they run, audio whose samples say their own number,
//! how a service is lost and comes back, and how a call ends.

use std::ops::Range;
use std::time::Duration;

use voicelived::net::ws::Message;

use super::random::Random;
use super::scene::Scene;

/// Statuses with which a service refuses a connection that is tried again.
const REFUSALS: [u16; 4] = [408, 429, 500, 503];
/// What a service says first of a session, and once it has taken the settings.
pub(crate) const CREATED: &[u8] = br#"{"type":"session.created","session":{"id":"s"}}"#;
pub(crate) const UPDATED: &[u8] = br#"{"type":"session.updated","session":{"id":"s"}}"#;

/// Runs the call of each seed: 2,000, or as many as `VOICELIVED_SEEDS` says, or `VOICELIVED_SEED` alone. Returns
/// what came of each.
pub(crate) fn for_seeds<T>(run: impl Fn(u64) -> T) -> Vec<T> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("VOICELIVED_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VOICELIVED_SEEDS").unwrap_or(2_000),
    };
    let of = |seed| {
        let _failing = Failing(seed);
        run(seed)
    };
    seeds.map(of).collect()
}

/// Says which seed has failed, whatever has failed in it.
struct Failing(u64);

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("VOICELIVED_SEED={}", self.0);
        }
    }
}

/// Numbers as audio: each is four bytes, two samples. Zero is silence.
pub(crate) fn numbers(range: Range<u32>) -> Vec<u8> {
    range.flat_map(u32::to_le_bytes).collect()
}

/// The numbers of such audio.
pub(crate) fn read_numbers(pcm: &[u8]) -> impl Iterator<Item = u32> {
    let (pairs, rest) = pcm.as_chunks::<4>();
    assert!(rest.is_empty(), "half a number");
    pairs.iter().map(|pair| u32::from_le_bytes(*pair))
}

/// The client sends this.
pub(crate) fn send(scene: &mut Scene, message: Message<'_>) {
    scene.client().send(message).expect("memory");
    scene.client().flush().expect("memory");
    scene.turn();
}

/// A status with which a connection is refused.
pub(crate) fn refusal(random: &mut Random) -> u16 {
    REFUSALS[random.range(0, 3)]
}

/// The service's connection breaks, or the service ends the session, or goes away. Returns whether the call is
/// without a session now: one that was ready takes over at once.
pub(crate) fn lose_service(scene: &mut Scene, random: &mut Random) -> bool {
    let before = scene.changes.len();
    // A connection that was asked for and not made is not waited for any more.
    scene.redial = false;
    match random.range(0, 2) {
        0 => scene.break_service(),
        1 => scene
            .say(br#"{"type":"error","error":{"code":"session_expired","message":"It is over."}}"#),
        _ => scene.send(0x88, &[0x03, 0xe9]),
    }
    let lost = scene.changes.len() == before;
    assert!(!lost || scene.service_is_let_go(), "a lost session is left open");
    lost
}

/// The service is there again, takes the connection that the call has asked for, and the settings.
pub(crate) fn find_service(scene: &mut Scene) {
    scene.answer_redial();
    scene.say(CREATED);
    scene.say(UPDATED);
}

/// The client hangs up. The call ends once, tells both ends so, and leaves no block behind. Returns the code with
/// which a second connection to the service was closed, if there was one.
pub(crate) fn end(mut scene: Scene, seed: u64) -> Option<u16> {
    send(&mut scene, Message::Text(r#"{"type":"hang_up"}"#));
    scene.pass(Duration::from_secs(3));
    assert!(scene.closed, "seed {seed}");
    assert_eq!(scene.service_closed, Some(1000), "seed {seed}");
    let ends = scene.texts.matches(r#""state":"ended""#).count();
    assert_eq!(ends, 1, "seed {seed}: {}", scene.texts);
    let next_closed = scene.next_closed;
    let (free, all) = scene.release();
    assert_eq!(free, all, "seed {seed}: blocks are missing");
    next_closed
}
