//! What a call costs in memory: little, and little more while both sides talk.

mod support;

use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use support::certificates;
use support::client::Client;
use support::daemon::Daemon;
use tungstenite::Message;

/// As many as the simulator takes.
const CALLS: u64 = 60;

const POOL_SECONDS: u64 = 400;

/// kB that a silent call may take, and one in which both sides talk, beyond PCM blocks. Sockets are
/// the kernel's.
const SILENT: u64 = 14;
const TALKING: u64 = 24;

/// kB that a crowd of calls may leave behind: what lies between others cannot be used again.
const KEPT: u64 = 4 * CALLS;

/// kB more that a call may take whose client can take it up again, beyond PCM blocks.
const RETURNING: u64 = 4;

#[test]
fn a_call_takes_little_and_gives_buffers_back() {
    let (certificate, key) = certificates::localhost();
    let folder = std::env::temp_dir().join(format!("voicelived-memory-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let (cert_file, key_file) = (file("cert.pem"), file("key.pem"));
    std::fs::write(&cert_file, certificate).expect("a file");
    std::fs::write(&key_file, key).expect("a file");
    // Replies at their own pace, so that no client is behind and no block is in use.
    let arguments =
        ["simulate", "--listen", "127.0.0.1:0", "--cert", &cert_file, "--key", &key_file];
    let faults = ["--fault", "no-welcome", "--fault", "reply-seconds=2", "--fault", "speed=1"];
    let service = Daemon::start(&[&arguments[..], &faults].concat(), &[("VOICELIVED_LOG", "info")]);
    let daemon = Daemon::run_at(
        &format!("https://{}", service.address),
        &[
            ("VOICELIVED_UPSTREAM_CA_FILE", &cert_file),
            ("VOICELIVED_MAX_SESSIONS", "61"),
            ("VOICELIVED_MAX_SESSIONS_PER_ADDRESS", "61"),
            ("VOICELIVED_AUDIO_POOL_SECONDS", &POOL_SECONDS.to_string()),
            ("VOICELIVED_LOG", "info"),
        ],
    );
    // The first call brings what all share: buffers, the authorities, the TLS session.
    talk(call(&daemon, "")).join().expect("it talks");
    let memory = || resident(&daemon);
    let alone = memory();

    // Silent, and at most while they talk.
    let crowd = |query: &str| {
        let calls: Vec<Client> = (0..CALLS).map(|_| call(&daemon, query)).collect();
        let silent = memory().saturating_sub(alone);
        let most = most_while_talking(calls, &memory).saturating_sub(alone);
        daemon.wait_until("all have ended", |daemon| daemon.count("calls_active", "") == 0);
        (silent, most)
    };
    let (silent, most) = crowd("");
    // As many again find the memory of the first.
    let (silent_again, again) = crowd("");
    let (silent_returning, returning) = crowd("resume");
    println!(
        "{CALLS} calls over {alone} kB: {silent} kB silent, {most} kB at most; {silent_again} and {again} kB again; \
         {silent_returning} and {returning} kB for clients that can come back"
    );
    let _ = std::fs::remove_dir_all(folder);
    assert!(silent <= CALLS * SILENT, "{silent} kB for {CALLS} silent calls");
    assert!(most <= CALLS * TALKING, "{most} kB for {CALLS} calls that talk");
    assert!(again <= most + KEPT, "{most} kB for {CALLS} calls, then {again} kB for as many again");
    // The most is compared. What silent calls find depends on what the allocator has kept of the calls before.
    let more = returning.saturating_sub(again);
    assert!(more <= CALLS * RETURNING, "{more} kB more for {CALLS} clients that can come back");
}

/// All talk at once and then leave; the most kB meanwhile.
fn most_while_talking(calls: Vec<Client>, memory: &impl Fn() -> u64) -> u64 {
    let talking: Vec<_> = calls.into_iter().map(talk).collect();
    let mut most = 0;
    while !talking.iter().all(JoinHandle::is_finished) {
        most = most.max(memory());
        std::thread::sleep(Duration::from_millis(20));
    }
    talking.into_iter().for_each(|it| drop(it.join().expect("it talks")));
    most
}

/// Resident memory in kB without the PCM pool, by far the largest mapping of nothing.
fn resident(daemon: &Daemon) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps", daemon.id())).expect("it runs");
    let numbers = |name: &'static str| {
        let lines = maps.lines().filter_map(move |line| line.strip_prefix(name));
        lines.map(|line| line.trim_end_matches("kB").trim().parse::<u64>().expect("a number"))
    };
    let pool = POOL_SECONDS * 48_000 / 1024;
    let (sizes, resident) = (numbers("Size:"), numbers("Rss:"));
    sizes.zip(resident).filter(|(size, _)| *size < pool).map(|(_, resident)| resident).sum()
}

fn call(daemon: &Daemon, query: &str) -> Client {
    let mut client = Client::join(daemon.address, query, "");
    client.wait_until_active();
    client
}

/// Speaks 20 ms at a time, hears a whole reply, and hangs up.
fn talk(mut client: Client) -> JoinHandle<Client> {
    std::thread::spawn(move || {
        client.tell(&json!({"type": "text", "text": "Go on."}));
        for _ in 0..100 {
            client.send(Message::binary(vec![0; 960]));
            client.read_one_within(Duration::from_millis(15));
        }
        client.wait_for_audio(2 * 48_000);
        client.tell(&json!({"type": "hang_up"}));
        client
    })
}
