//! The spending guard: a day's minutes end calls with a sentence and survive a restart.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support;
use serde_json::json;

use support::client::Client;
use support::daemon::Daemon;

#[test]
fn the_days_minutes_end_calls_also_after_a_restart() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("spending");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    // Today, 58 of the 60 seconds are used.
    let today = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    let file = folder.join("minutes-today");
    std::fs::write(&file, format!("{today} 58\n")).unwrap();
    let state = folder.to_str().unwrap();
    let settings = [("VOICELIVED_STATE_DIR", state), ("VOICELIVED_DAILY_MINUTES", "1")];
    let daemon = Daemon::demo(&settings);
    let before = daemon.descriptors();
    let mut call = Client::connect(daemon.address);
    call.wait_until_active();
    let ended = call.wait_for_end();
    assert_eq!(ended["reason"], "daily_limit");
    assert_eq!(ended["message"], "Today's 1 min of calls, all together, are used up.");
    assert_eq!(call.closed.as_ref().unwrap().0, 1013);
    daemon.assert_counted("calls_ended_total", "daily_limit", 1);
    // A daemon that comes late to it counts what was used.
    let used = daemon.count("used_today_seconds", "");
    assert!((60..120).contains(&used), "{used} s");
    daemon.assert_nothing_left(before);
    assert_eq!(daemon.stop("TERM"), Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{today} {used}\n"));
    let daemon = Daemon::demo(&settings);
    let mut refused = Client::connect(daemon.address);
    assert_eq!(refused.wait_for_end()["reason"], "daily_limit");
    assert!(refused.of_type("hello").is_empty(), "no call, no cost");
    daemon.assert_counted("calls_turned_away_total", "daily_limit", 1);
    daemon.assert_counted("calls_started_total", "", 0);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_call_that_is_held_for_its_client_uses_the_days_minutes() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("spending-held");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let today = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    // What is left is longer than this machine takes to begin the call and to break it.
    std::fs::write(folder.join("minutes-today"), format!("{today} 52\n")).unwrap();
    let state = folder.to_str().unwrap();
    let daemon =
        Daemon::demo(&[("VOICELIVED_STATE_DIR", state), ("VOICELIVED_DAILY_MINUTES", "1")]);
    let mut client = Client::join(daemon.address, "resume", "");
    client.wait_until_active();
    client.cut();
    daemon.wait_for_log("the call is held");
    daemon.assert_counted("calls_ended_total", "daily_limit", 1);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn short_calls_are_written_down_at_the_daemons_end_and_for_its_owner_only() {
    let parent = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("spending-short");
    let _ = std::fs::remove_dir_all(&parent);
    let folder = parent.join("state");
    let file = folder.join("minutes-today");
    let settings =
        [("VOICELIVED_STATE_DIR", folder.to_str().unwrap()), ("VOICELIVED_DAILY_MINUTES", "9")];
    let daemon = Daemon::demo(&settings);
    let before = daemon.descriptors();
    let seconds = || -> u64 {
        let text = std::fs::read_to_string(&file).unwrap();
        text.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    for _ in 0..2 {
        let mut call = Client::connect(daemon.address);
        call.wait_until_active();
        std::thread::sleep(Duration::from_secs(1));
        call.tell(&json!({"type": "hang_up"}));
        call.assert_ends("a short call", 1000, "hang_up");
        daemon.assert_nothing_left(before);
        assert_eq!(seconds(), 0, "a minute has not passed");
    }
    assert_eq!(daemon.stop("TERM"), Some(0));
    assert!((2..20).contains(&seconds()), "{} s", seconds());
    for (path, mode) in [(&folder, 0o700), (&file, 0o600)] {
        let found = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
    std::fs::remove_dir_all(parent).unwrap();
}

#[test]
fn two_daemons_on_one_folder_add_up_their_calls() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("spending-two");
    let _ = std::fs::remove_dir_all(&folder);
    let settings =
        [("VOICELIVED_STATE_DIR", folder.to_str().unwrap()), ("VOICELIVED_DAILY_MINUTES", "9")];
    let daemons = [Daemon::demo(&settings), Daemon::demo(&settings)];
    let mut calls = daemons.each_ref().map(|daemon| Client::connect(daemon.address));
    for call in &mut calls {
        call.wait_until_active();
    }
    std::thread::sleep(Duration::from_secs(3));
    for call in &mut calls {
        call.tell(&json!({"type": "hang_up"}));
        call.assert_ends("a call", 1000, "hang_up");
    }
    let used = |daemon: &Daemon| -> f64 {
        support::metrics::value(&support::metrics::scrape(daemon.address), "used_today_seconds", "")
    };
    let sum: f64 = daemons.iter().map(used).sum();
    for daemon in daemons {
        assert_eq!(daemon.stop("TERM"), Some(0));
    }
    let text = std::fs::read_to_string(folder.join("minutes-today")).unwrap();
    let kept: f64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(sum >= 6.0 && (sum - 2.0..=sum).contains(&kept), "{kept} of {sum} s");
    std::fs::remove_dir_all(folder).unwrap();
}
