//! A daemon in a network of its own: one bad link leads to its callers, one to its service, and a good one to its log
//! and metrics.
//!
//! ```text
//! caller ──client link──► daemon ──service link──► tap ──► simulator
//! ```
//!
//! Caller, tap and simulator are in the test's network, where each scene has addresses of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::caller::Caller;
use crate::link::{Link, Network};
use crate::support::client::speech;
use crate::support::daemon::{Daemon, KEY};
use crate::support::network::run;
use crate::support::random::Random;
use crate::support::witness;
use crate::tap::{Session, Tap};

/// Seconds of audio in each reply. The service sends it in real time, so a reply can be cut.
const REPLY_SECONDS: u64 = 3;

/// See the module's text. What is dropped first stands first.
pub(crate) struct Scene {
    pub(crate) caller: Caller,
    pub(crate) daemon: Daemon,
    pub(crate) tap: Tap,
    pub(crate) client_link: Link,
    pub(crate) service_link: Link,
    pub(crate) far: Network,
    _simulator: Daemon,
    number: u8,
    descriptors: usize,
    folder: PathBuf,
    /// The longest time without audio within an answer, and from the end of a question to its answer.
    longest_gap: Duration,
    /// How often each of the two got another address.
    client_moves: u8,
    daemon_moves: u8,
    /// How often the user has asked something.
    questions: usize,
    /// When the network was broken last.
    broken: Option<Instant>,
}

impl Scene {
    /// A call under way. `number` tells scenes apart, and is their seed; the options are those of the two
    /// links.
    pub(crate) fn new(number: u8, client: &[&str], service: &[&str]) -> Self {
        let seed = u64::from(number);
        let net = |link: u8| format!("10.{number}.{link}");
        let far = Network::new();
        let seed_option = format!("--seed={seed}");
        let link = |name: &str, at: u8, options: &[&str]| {
            let options = [options, &[seed_option.as_str()]].concat();
            Link::to(&far, &format!("{name}{number}"), &net(at), &options)
        };
        let (client_link, service_link) = (link("client", 1, client), link("service", 2, service));
        good_link(&far, number);
        let simulator = simulator(number);
        let tap = Tap::start(address(number, 2, 1).ip(), simulator.address);
        // Other tests of this file run at the same time, each in a process of its own.
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("network-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let authority = folder.join("tap.pem");
        fs::write(&authority, &tap.certificate).expect("ours");
        let mut daemon = Daemon::started_by(
            command(&far),
            &[
                ("AZURE_VOICE_LIVE_ENDPOINT", &format!("https://{}", tap.address)),
                ("AZURE_VOICE_LIVE_API_KEY", KEY),
                ("VOICELIVED_UPSTREAM_CA_FILE", authority.to_str().expect("UTF-8")),
                ("VOICELIVED_ACCESS", "open"),
                ("VOICELIVED_LOG", "debug"),
            ],
        );
        let port = daemon.address.port();
        // For `/metrics`.
        daemon.address = SocketAddr::new(address(number, 3, 2).ip(), port);
        let descriptors = daemon.descriptors();
        let at = SocketAddr::new(address(number, 1, 2).ip(), port);
        let mut caller = Caller::call(at, true, seed);
        caller.live_until("active", |caller| caller.states().contains(&"active"));
        let longest_gap = Duration::ZERO;
        Self {
            caller,
            daemon,
            tap,
            client_link,
            service_link,
            far,
            _simulator: simulator,
            number,
            descriptors,
            folder,
            longest_gap,
            client_moves: 0,
            daemon_moves: 0,
            questions: 0,
            broken: None,
        }
    }

    /// The user asks something, and `meanwhile` happens when it has been said and `after` has passed.
    /// Waits for the end of the answer.
    pub(crate) fn take_a_turn(&mut self, after: Duration, meanwhile: impl FnOnce(&mut Self)) {
        self.questions += 1;
        let asked = Instant::now();
        let audio = self.caller.audio.len();
        let question = speech("weather");
        let length = Duration::from_millis(question.len() as u64 / 48);
        self.caller.say(&question);
        self.caller.live(after);
        meanwhile(self);
        self.caller.live_until("an answer", |caller| caller.has_answer(audio));
        self.hear_the_rest();
        self.note_gaps(asked + length, audio);
    }

    /// Text overtakes audio, and a busy machine brings both late: goes on until nothing more is heard.
    fn hear_the_rest(&mut self) {
        let told = Instant::now();
        self.caller.live_until("the end of the answer", |caller| {
            let last = caller.arrivals.last().map_or(told, |(at, _)| (*at).max(told));
            last.elapsed() > Duration::from_millis(700)
        });
    }

    /// A turn in which nothing is done to the network: its answer comes whole.
    pub(crate) fn take_a_whole_turn(&mut self) {
        let before = self.caller.audio.len();
        self.take_a_turn(Duration::ZERO, |_| ());
        let answer = &self.caller.audio[before..];
        assert!(answer == witness::pattern(REPLY_SECONDS), "{} bytes of an answer", answer.len());
    }

    fn note_gaps(&mut self, asked: Instant, audio: usize) {
        let new = self.caller.arrivals.iter().filter(|(_, bytes)| *bytes > audio);
        let mut last = asked;
        for (at, _) in new {
            self.longest_gap = self.longest_gap.max(at.saturating_duration_since(last));
            last = *at;
        }
    }

    /// Hangs up, and checks what was heard at both ends and what is left behind.
    /// `lossless`: nothing of the microphone may be missing.
    pub(crate) fn finish(mut self, name: &str, lossless: bool) {
        self.heal();
        self.caller.live(Duration::from_secs(2));
        self.catch_up();
        self.caller.hang_up();
        let sessions = self.tap.sessions();
        self.tell(name, &sessions);
        // A session that is lost takes its reply along, and a user who speaks again interrupts it.
        let speeches = self.caller.count("speech_started").saturating_sub(self.questions);
        assert_heard(&self.caller.audio, &sessions, sessions.len() - 1 + speeches);
        self.assert_microphone(&sessions, lossless);
        for session in &sessions {
            assert_replay(session);
        }
        assert_eq!(self.daemon.count("items_refused_total", ""), 0);
        self.daemon.assert_counted("calls_ended_total", "hang_up", 1);
        self.daemon.assert_nothing_left(self.descriptors);
    }

    /// Both links are good from now on.
    pub(crate) fn heal(&mut self) {
        for link in [&mut self.client_link, &mut self.service_link] {
            link.set("loss=0 down=0 delay=0 jitter=0 reorder=0 duplicate=0");
        }
    }

    /// What was held in an outage is sent little by little: waits until the service hears the present.
    pub(crate) fn catch_up(&mut self) {
        if self.caller.muted {
            return;
        }
        for _ in 0..80 {
            let sessions = self.tap.sessions();
            let heard = &sessions.last().expect("a session").microphone;
            let recent = &self.caller.spoken[self.caller.spoken.len().saturating_sub(48_000)..];
            if heard.last_chunk::<64>().is_some_and(|end| recent.windows(64).any(|it| it == end)) {
                return;
            }
            self.caller.live(Duration::from_millis(500));
        }
        panic!("the service never hears the present");
    }

    /// One line for a person who reads the output.
    fn tell(&mut self, name: &str, sessions: &[Session]) {
        let (client, service) = (self.client_link.count(), self.service_link.count());
        let both = |counts: &Value, key: &str| -> u64 {
            ["to_far", "to_near"].iter().filter_map(|way| counts[way][key].as_u64()).sum()
        };
        let lost = |counts: &Value| both(counts, "lost") + both(counts, "outage");
        let packets = |counts: &Value| both(counts, "packets");
        let count = |name: &str| self.daemon.count(name, "");
        let after = |state: &str| {
            let since = self.broken?;
            let mut states =
                self.caller.messages.iter().filter(|(at, m)| *at > since && m["state"] == state);
            states.next().map(|(at, _)| at.duration_since(since).as_millis())
        };
        println!(
            "{name}: longest gap {} ms; lost after {:?} ms, active after {:?} ms, {} sessions; taken up again {:?}; \
             microphone dropped {} bytes; {} and {} of {} and {} packets lost",
            self.longest_gap.as_millis(),
            after("reconnecting"),
            after("active"),
            sessions.len(),
            self.caller.resumed,
            count("microphone_dropped_bytes_total"),
            lost(&client),
            lost(&service),
            packets(&client),
            packets(&service),
        );
    }

    /// No session of the service hears a sample twice or out of order, and what none has heard was counted:
    /// by the daemon, or by the caller, who keeps 5 s.
    fn assert_microphone(&self, sessions: &[Session], lossless: bool) {
        let spoken = &self.caller.spoken;
        let mut heard = vec![false; spoken.len() / 2];
        for (at, session) in sessions.iter().enumerate() {
            for (start, end) in places(&session.microphone, spoken, at) {
                heard[start / 2..end / 2].fill(true);
            }
        }
        // The last moment is under way when the call ends.
        let end = heard.iter().rposition(|heard| *heard).map_or(0, |at| at + 1);
        assert!(end * 2 + 96_000 > spoken.len(), "the last {} bytes", spoken.len() - end * 2);
        let missing = heard[..end].iter().filter(|heard| !**heard).count() * 2;
        let dropped = self.daemon.count("microphone_dropped_bytes_total", "");
        let counted = usize::try_from(dropped).expect("it fits") + self.caller.given_up;
        assert!(missing <= counted, "{missing} bytes are missing, and {counted} were counted");
        assert!(missing == 0 || !lossless, "{missing} bytes of the microphone are missing");
    }

    /// The way to the service carries nothing for so many seconds.
    pub(crate) fn service_outage(&mut self, seconds: u64) {
        self.broken = Some(Instant::now());
        self.service_link.set("down=1");
        self.caller.live(Duration::from_secs(seconds));
        self.service_link.set("down=0");
    }

    /// The user, whose microphone is off, types something while the way to the service carries nothing.
    pub(crate) fn type_in_an_outage(&mut self, seconds: u64) {
        self.caller.muted = true;
        let before = self.caller.audio.len();
        self.broken = Some(Instant::now());
        self.service_link.set("down=1");
        self.caller.tell(&json!({"type": "text", "text": "Is anybody there?"}));
        self.caller.live(Duration::from_secs(seconds));
        self.service_link.set("down=0");
        self.caller.live_until("an answer", |caller| caller.has_answer(before));
        self.hear_the_rest();
        self.note_gaps(self.broken.expect("just now"), before);
    }

    /// The way to the client carries nothing for so many seconds.
    pub(crate) fn client_outage(&mut self, seconds: u64) {
        self.broken = Some(Instant::now());
        self.client_link.set("down=1");
        self.caller.live(Duration::from_secs(seconds));
        self.client_link.set("down=0");
    }

    /// The client gets another address, as a phone that changes from Wi-Fi to mobile data.
    pub(crate) fn move_client(&mut self) {
        self.broken = Some(Instant::now());
        let (number, device) = (self.number, format!("client{}", self.number));
        let (old, new) = next_address(&mut self.client_moves, 1);
        run(&format!("ip addr del 10.{number}.1.{old}/24 dev {device}"));
        run(&format!("ip addr add 10.{number}.1.{new}/24 dev {device}"));
    }

    /// A random mishap: one of the two ways, or both, is down for up to 8 s, loses packets, or has another
    /// address at its end.
    pub(crate) fn mishap(&mut self, random: &mut Random) {
        let seconds = random.range(1, 8) as u64;
        let losses = format!("loss={} reorder=2 delay={}", random.range(0, 6), random.range(0, 60));
        match random.range(0, 6) {
            0 => self.client_outage(seconds),
            1 => self.service_outage(seconds),
            2 => {
                self.client_link.set("down=1");
                self.service_outage(seconds);
                self.client_link.set("down=0");
            }
            3 => self.move_client(),
            4 => self.move_daemon(),
            5 => self.client_link.set(&losses),
            _ => self.service_link.set(&losses),
        }
    }

    /// The daemon gets another address towards the service, as after a new lease or a change of networks:
    /// what comes for the old one finds nobody.
    pub(crate) fn move_daemon(&mut self) {
        self.broken = Some(Instant::now());
        let (number, device) = (self.number, format!("service{}", self.number));
        let (old, new) = next_address(&mut self.daemon_moves, 2);
        self.far.run(&format!("ip addr del 10.{number}.2.{old}/24 dev {device}"));
        self.far.run(&format!("ip addr add 10.{number}.2.{new}/24 dev {device}"));
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        if std::thread::panicking() {
            let log = self.daemon.log();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("TRACE")).collect();
            println!("scene {}: {}\n{}", self.number, self.caller.told(), lines.join("\n"));
        }
    }
}

fn address(number: u8, link: u8, end: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, number, link, end)), 0)
}

/// The last byte of the address until now, and of the next one, after so many changes.
fn next_address(changes: &mut u8, first: u8) -> (u8, u8) {
    let old = if *changes == 0 { first } else { 8 + *changes };
    *changes += 1;
    (old, 8 + *changes)
}

fn good_link(far: &Network, number: u8) {
    run(&format!("ip link add good{number} type veth peer name good netns {}", far.process()));
    run(&format!("ip addr add 10.{number}.3.1/24 dev good{number}"));
    run(&format!("ip link set good{number} up"));
    far.run(&format!("ip addr add 10.{number}.3.2/24 dev good"));
    far.run("ip link set good up");
}

fn simulator(number: u8) -> Daemon {
    let listen = address(number, 2, 1).to_string();
    let reply = format!("reply-seconds={REPLY_SECONDS}");
    let mut arguments = vec!["simulate", "--listen", &listen];
    for fault in ["no-welcome", &reply, "speed=1"] {
        arguments.extend(["--fault", fault]);
    }
    Daemon::start(&arguments, &[])
}

fn command(far: &Network) -> Command {
    let mut command = far.command(env!("CARGO_BIN_EXE_voicelived"));
    command.args(["run", "--listen", "0.0.0.0:0"]).env_clear();
    command
}

/// What was heard is what was sent, reply by reply, in order. At most so many were cut: nothing of such a one
/// was heard after the cut.
fn assert_heard(heard: &[u8], sessions: &[Session], cuts: usize) {
    let replies = sessions.iter().flat_map(|session| &session.replies);
    let (mut at, mut cut) = (0, Vec::new());
    for (id, reply) in replies {
        let same = reply.iter().zip(&heard[at..]).take_while(|(sent, heard)| sent == heard).count();
        if same < reply.len() {
            cut.push((id, same, reply.len()));
        }
        // What comes next may begin as this one would have gone on.
        at += same & !1;
    }
    assert_eq!(at, heard.len(), "heard, and sent by nobody; cut replies: {cut:?}");
    assert!(cut.len() <= cuts, "{cuts} may have been cut, and these were: {cut:?}");
}

/// Where in `spoken` a session's microphone audio stands: once in order, with gaps, never back. Silence that
/// the daemon has put in, so that a turn ends while the client is away, was not said: it is all zeros,
/// and the microphone's noise never is for long.
fn places(heard: &[u8], spoken: &[u8], session: usize) -> Vec<(usize, usize)> {
    let (mut places, mut at, mut from) = (Vec::new(), 0, 0);
    while at < heard.len() {
        let next = &heard[at..(at + 64).min(heard.len())];
        let Some(found) = spoken[from..].windows(next.len()).position(|window| window == next)
        else {
            let zeros = heard[at..].iter().take_while(|byte| **byte == 0).count() & !1;
            assert!(
                zeros > 0,
                "session {session}: {} bytes at {at} were not said after {from}",
                next.len()
            );
            at += zeros;
            continue;
        };
        let mut start = from + found;
        // The zeros before it may have been its own.
        while start > from && spoken[start - 2..start] == [0, 0] {
            start -= 2;
        }
        let begin = from + found;
        let same =
            heard[at..].iter().zip(&spoken[begin..]).take_while(|(a, b)| a == b).count() & !1;
        places.push((start, begin + same));
        (at, from) = (at + same, begin + same);
    }
    places
}

/// A new session is told what was said, before it hears anything, and refuses none of it.
fn assert_replay(session: &Session) {
    assert!(session.refused.is_empty(), "refused: {:?}", session.refused);
    let replayed = session.told.iter().filter(|(_, event)| {
        let id = event["event_id"].as_str().unwrap_or_default();
        id.starts_with("replay_")
    });
    for (microphone, event) in replayed {
        assert_eq!(*microphone, 0, "the microphone went before {event}");
    }
}
