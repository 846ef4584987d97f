//! Servers by a clock that the test moves. Their programs are real, and speak no word of the protocol.

use mio::Poll;

use super::*;
use crate::mcp::file::ServerEndpoint;

fn server(name: &str, command: &[&str]) -> file::Server {
    let command = command.iter().map(ToString::to_string).collect();
    file::Server {
        name: name.to_owned(),
        place: ServerEndpoint::Program { command, environment: Vec::new(), folder: None },
        allow: None,
        deny: Vec::new(),
        confirm: file::Confirm::Never,
        timeout: Duration::from_secs(20),
    }
}

fn tool(read_only: Option<bool>, destructive: Option<bool>) -> listing::Tool {
    listing::Tool {
        name: "t".to_owned(),
        description: String::new(),
        parameters: serde_json::json!({}),
        read_only,
        destructive,
    }
}

/// One server, and the poll that has its pipes.
struct One {
    link: Link,
    poll: Poll,
    now: Instant,
}

impl One {
    fn new(command: &[&str]) -> Self {
        let now = Instant::now();
        let (link, poll) = (Link::new(server("one", command), 0, now), Poll::new());
        Self { link, poll: poll.expect("a poll"), now }
    }

    fn pump(&mut self) {
        let (program, registry) = (Path::new("/nowhere"), self.poll.registry());
        self.link.pump(program, &[], registry, self.now, &mut Vec::new());
    }

    /// Pumps without a moment of its time, until that is so.
    fn until(&mut self, what: &str, mut reached: impl FnMut(&Link) -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !reached(&self.link) {
            assert!(Instant::now() < patience, "{what}");
            self.pump();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Why it has ended, once it has.
    fn end(&mut self) -> String {
        let why = |link: &Link| link.standing.clone().expect_err("it speaks no MCP");
        self.until("it ends", |link| !why(link).is_empty());
        why(&self.link)
    }
}

#[test]
fn a_server_that_cannot_be_started_is_tried_again_up_to_once_a_minute() {
    let mut one = One::new(&[]);
    for (failures, wait) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
        one.pump();
        let due = one.now + Duration::from_secs(wait);
        assert_eq!((one.link.failures, one.link.deadline()), (failures, Some(due)));
        one.now = due;
    }
}

/// What it writes there is read over several turns, and then nothing wakes the loop.
#[test]
fn a_server_that_floods_its_standard_error_asks_for_one_turn_after_the_other() {
    let mut one = One::new(&["/bin/sh", "-c", "head -c 200000 /dev/zero >&2; exec sleep 60"]);
    one.pump();
    one.until("it has more", Link::is_marked);
    let mut quiet = 0;
    one.until("it has no more", |link| {
        quiet = if link.is_marked() { 0 } else { quiet + 1 };
        quiet == 20
    });
}

#[test]
fn a_server_is_told_to_end_before_it_is_killed() {
    // Its words show that it runs: under emulation a signal that comes before is lost.
    let mut one = One::new(&["/bin/sh", "-c", "head -c 200000 /dev/zero >&2; sleep 60"]);
    one.pump();
    one.until("it runs", Link::is_marked);
    assert!(one.link.adopt(server("one", &["/bin/sleep", "61"]), one.now));
    let patience = Duration::from_secs(2);
    let due = one.now + patience;
    assert_eq!(one.link.deadline(), Some(due), "its input is closed, and it may end by itself");
    one.now = due - Duration::from_millis(1);
    one.pump();
    assert_eq!(one.link.deadline(), Some(due));
    one.now = due;
    one.pump();
    let end = one.end();
    assert_eq!(end, "the file has another place for it (signal: 15 (SIGTERM))");
    assert_eq!(one.link.deadline(), Some(one.now), "the other one is started at once");
}

/// What it leaves behind keeps its output open, so that its exit is seen first.
#[test]
fn how_a_server_has_ended_is_said_once() {
    for (script, end) in [
        ("sleep 60 & exit 3", "it ended with exit status: 3"),
        ("sleep 60 & kill -9 $$", "it ended with signal: 9 (SIGKILL)"),
    ] {
        let mut one = One::new(&["/bin/sh", "-c", script]);
        one.pump();
        assert_eq!(one.end(), end);
    }
}

fn two() -> (Servers, Instant) {
    let now = Instant::now();
    let servers = ["one", "two"].map(|name| server(name, &["/bin/sleep", "60"])).into();
    let mcp = Mcp { servers, schema_budget: 10_000, ..Mcp::default() };
    (Servers::new(mcp, 0, now), now)
}

#[test]
fn a_cancelled_run_is_told_to_its_own_server() {
    let (mut servers, now) = two();
    let poll = Poll::new().expect("a poll");
    assert!(servers.pump(Path::new("/nowhere"), poll.registry(), now).is_empty());
    assert!(!servers.is_marked(), "an idle server does not wake the loop");
    servers.cancel(RunId(1), "two", "its call has ended");
    let marked: Vec<bool> = servers.links.iter().map(Link::is_marked).collect();
    assert_eq!(marked, [false, true]);
}

#[test]
fn the_tools_of_servers_take_the_place_of_their_old_ones_alone() {
    let (mut servers, _) = two();
    let mut tools = tools::Tools::builtin();
    let own = tools.iter().count();
    for listed in [1, 0, 2] {
        for (at, link) in servers.links.iter_mut().enumerate() {
            link.tools = if at < listed { vec![tool(None, None)] } else { Vec::new() };
        }
        assert_eq!(offer_in(&mut tools, &servers), Vec::<String>::new());
        assert_eq!((tools.of_servers().count(), tools.iter().count()), (listed, own + listed));
    }
    let limits = tools.of_servers().next().expect("there are two").limits;
    assert_eq!(limits.timeout, Duration::from_secs(21), "the server's own time ends a call before");
}

#[test]
fn a_servers_word_counts_only_where_the_owner_leaves_it_to_it() {
    let asks = |asked, read_only, destructive| confirm(asked, &tool(read_only, destructive));
    for (read_only, destructive, auto) in [
        (None, None, Confirm::Always),
        (Some(false), Some(true), Confirm::Always),
        (Some(true), None, Confirm::Never),
        (None, Some(false), Confirm::Never),
    ] {
        assert_eq!(asks(file::Confirm::Auto, read_only, destructive), auto);
        assert_eq!(asks(file::Confirm::Never, read_only, destructive), Confirm::Never);
        assert_eq!(asks(file::Confirm::Always, read_only, destructive), Confirm::Always);
    }
}
