//! Tools that their owner drops into a folder: commands, what they inherit, their bounds, faulty files, and
//! files that change while the daemon runs.

use std::fs;
use std::time::{Duration, Instant};

use crate::support;
use serde_json::{Value, json};
use support::client::Client;
use support::daemon::{Daemon, PATIENCE};
use support::tools::Folder;

fn command(name: &str, argv: &[&str], more: Value) -> String {
    let mut file = json!({"name": name, "description": "A test.", "command": argv});
    for (field, value) in more.as_object().expect("an object") {
        file[field] = value.clone();
    }
    file.to_string()
}

/// Types a turn that names the tool, and gives what the tool's end is told as.
fn ask(client: &mut Client, name: &str, arguments: &Value) -> Value {
    let seen = client.messages.len();
    client.tell(&json!({"type": "text", "text": format!("{name} {arguments}")}));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = client.messages[seen..].iter().map(|(_, message)| message).find(|message| {
            message["type"] == "tool" && message["name"] == name && message["state"] != "running"
        });
        if let Some(told) = told {
            return told.clone();
        }
        assert!(Instant::now() < deadline, "{name} does not end: {:?}", &client.messages[seen..]);
        client.read_one_within(Duration::from_millis(100));
    }
}

#[test]
fn the_list_names_each_tool_and_each_fault_with_its_line() {
    let folder = Folder::new("list")
        .with("good.json", &command("good", &["cat"], json!({})))
        .with("weather.json", &command("get_weather", &["cat"], json!({})))
        .with("twice.json", &command("good", &["cat"], json!({})))
        .with("last.json", &command("hang_up", &["cat"], json!({})))
        .with("typo.json", "{\n  \"name\": \"x\",\n  \"descripton\": \"y\"\n}")
        .with("half.json", "{\n  \"name\": \"x\",\n")
        .with(".hidden.json", "{")
        .with("notes.txt", "{");
    fs::create_dir(folder.0.join("folder.json")).expect("a folder");
    let fifo = std::process::Command::new("mkfifo").arg(folder.0.join("pipe.json")).status();
    assert!(fifo.expect("it runs").success());
    let told = folder.tools(&[]);
    assert_eq!(told.code, Some(78), "{}", told.errors);
    let lines: Vec<&str> = told.output.lines().collect();
    let of = |name: &str| lines.iter().filter(|line| line.starts_with(name)).count();
    assert_eq!((lines.len(), of("good "), of("get_weather "), of("hang_up ")), (4, 1, 1, 1));
    assert!(
        lines.iter().any(|line| line.starts_with("get_weather") && line.contains("weather.json"))
    );
    for fault in [
        "typo.json line 3: there is no field \"descripton\"",
        "half.json line 3: it is not JSON",
        "twice.json: the name good is taken",
        "last.json: the name hang_up is taken: built in",
        "folder.json: it is no file",
        "pipe.json: it is no file",
    ] {
        assert!(told.errors.contains(fault), "{fault}: {}", told.errors);
    }
    assert_eq!(told.errors.lines().count(), 6, "{}", told.errors);
}

/// The columns stand below each other, and are no wider than what stands in them.
#[test]
fn the_columns_of_the_list_are_as_wide_as_the_longest_of_each() {
    let web = r#"{"name": "web", "description": "d",
        "http": {"url": "https://a.host.with.a.name.that.is.long.example/"}}"#;
    let folder = Folder::new("columns")
        .with("long.json", &command(&"n".repeat(64), &["cat"], json!({})))
        .with("web.json", web);
    for (longest, what) in [(64, 47), ("get_stock_price".len(), 7), ("get_stock_price".len(), 0)] {
        let told = folder.tools(&[]);
        assert_eq!(told.code, Some(0), "{}", told.errors);
        let origin = |line: &str| line.find("built in").or_else(|| line.find(folder.path()));
        let at: Vec<_> = told.output.lines().map(origin).collect();
        assert!(at.len() >= 3, "{}", told.output);
        let expected = longest + 1 + what + 1;
        assert!(at.iter().all(|it| *it == Some(expected)), "{expected}: {}", told.output);
        // Next time with a short name, and then with none.
        let _ = fs::remove_file(folder.0.join("web.json"));
        let name = folder.0.join("long.json");
        if what == 7 {
            fs::remove_file(name).expect("it is there");
        } else {
            folder.write("long.json", &command("short", &["cat"], json!({})));
        }
    }
}

#[test]
fn a_run_prints_what_the_model_gets() {
    let script = "cat; echo secret words >&2; exit 0";
    let folder = Folder::new("run")
        .with("echo.json", &command("echo", &["sh", "-c", script], json!({})))
        .with("text.json", &command("text", &["echo", " plain\ntext "], json!({})))
        .with(
            "speaks.json",
            &command(
                "speaks",
                &["sh", "-c", "echo The lamp is not plugged in.; exit 3"],
                json!({}),
            ),
        )
        .with("mute.json", &command("mute", &["sh", "-c", "exit 3"], json!({})))
        .with("gone.json", &command("gone", &["./nowhere"], json!({})))
        .with("slow.json", &command("slow", &["sleep", "60"], json!({"timeout_seconds": 1})))
        .with(
            "long.json",
            &command(
                "long",
                &["head", "-c", "1001", "/dev/zero"],
                json!({"max_output_bytes": 1000}),
            ),
        )
        .with("odd.json", &command("odd", &["printf", "\\377"], json!({})))
        .with("here.sh", "echo here")
        .with("here.json", &command("here", &["sh", "here.sh"], json!({})));
    let told = folder.tools(&["run", "echo", "{\"a\": [1,\n\"$(reboot)\"]}"]);
    assert_eq!(told.output, "{\"a\":[1,\"$(reboot)\"]}\n", "no shell has read it");
    assert!(told.errors.contains("echo: secret words") && told.errors.contains(" ms, "));
    assert_eq!(folder.result("text", ""), "plain\ntext");
    assert_eq!(folder.result("here", "{}"), "here");
    let weather = folder.result("get_weather", r#"{"location":"Oslo"}"#);
    assert!(weather.contains("\"location\":\"Oslo\""), "{weather}");
    assert_eq!(folder.failure("speaks", "{}"), "The lamp is not plugged in.");
    for (name, arguments, part) in [
        ("mute", "{}", "it ended with exit status: 3"),
        ("gone", "{}", "cannot be started"),
        ("slow", "{}", "it took too long"),
        ("long", "{}", "its output is too long"),
        ("odd", "{}", "not text"),
        ("hang_up", "{}", "in a call"),
        ("echo", "[]", "JSON object"),
        ("nothing", "{}", "no such tool"),
        ("get_weather", "{}", "location is missing"),
    ] {
        let failure = folder.failure(name, arguments);
        assert!(failure.contains(part), "{name}: {failure}");
    }
}

/// The file that the documentation begins with, as it stands there.
#[test]
fn the_first_example_of_the_documentation_works() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tools.md"));
    let text = text.expect("it is there");
    let lines = text.lines().skip_while(|line| *line != "    {");
    let file: String = lines.take_while(|line| line.starts_with("    ")).collect();
    let folder = Folder::new("documented").with("shopping.json", &file);
    assert_eq!(folder.result("shopping_list", r#"{"item": "milk"}"#), "noted");
    let list = fs::read_to_string(folder.0.join("list.txt")).expect("it was written");
    assert_eq!(list, "{\"item\":\"milk\"}\n");
}

/// Each hostile text reaches the program as that text, on its standard input, and nowhere else.
#[test]
fn hostile_arguments_stay_arguments() {
    let folder = Folder::new("hostile").with("echo.json", &command("echo", &["cat"], json!({})));
    for text in support::hostile::TEXTS {
        let arguments = json!({"a": text}).to_string();
        assert_eq!(folder.result("echo", &arguments), arguments, "{text:?}");
    }
}

/// The daemon has a key, listeners, a call and the state of a poll. Its tools see none of it.
#[test]
fn a_command_inherits_eight_variables_and_three_descriptors() {
    let folder = Folder::new("inherit");
    let seen = folder.0.join("seen");
    let script = format!(
        "{{ tr '\\0' '\\n' </proc/$$/environ; echo ---; ls -l /proc/$$/fd; }} >'{0}.part'; mv '{0}.part' '{0}'",
        seen.display()
    );
    folder.write("look.json", &command("look", &["sh", "-c", &script], json!({})));
    let service = Daemon::simulate(&["no-welcome"]);
    let settings = [("VOICELIVED_TOOLS_DIR", folder.path()), ("HOME", "/nowhere")];
    let daemon = Daemon::run(service.address, &settings);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    assert_eq!(ask(&mut client, "look", &json!({}))["state"], "done");
    let seen = fs::read_to_string(seen).expect("it was run");
    let (variables, descriptors) = seen.split_once("---").expect("both");
    for line in variables.lines() {
        let name = line.split('=').next().unwrap_or_default();
        let passed =
            ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RES_OPTIONS", "LOCALDOMAIN"];
        let of_shell = ["PWD", "SHLVL", "_", "OLDPWD"];
        assert!(passed.contains(&name) || of_shell.contains(&name), "it sees {name}");
    }
    assert!(variables.contains("HOME=/nowhere"), "{variables}");
    let open = descriptors.lines().filter(|line| line.contains(" -> "));
    // The shell's own place for the output that it redirects is one of them.
    let foreign: Vec<&str> =
        open.filter(|line| line.contains("socket:") || line.contains("anon_inode")).collect();
    assert_eq!(foreign, [""; 0], "{descriptors}");
    let pipes = descriptors.lines().filter(|line| line.contains("pipe:")).count();
    assert!(pipes <= 4, "{descriptors}");
}

#[test]
fn a_file_that_changes_counts_from_the_next_reload_and_a_faulty_one_keeps_its_last_good_version() {
    let says = |word: &str| command("say", &["echo", word], json!({}));
    let folder = Folder::new("reload").with("say.json", &says("first"));
    folder.write("other.json", &command("other", &["echo", "other"], json!({})));
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
    let told = |name: &str| {
        let mut client = Client::connect(daemon.address);
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": format!("{name} {{}}")}));
        let told = client.wait_for("an answer", |message| {
            message["type"] == "transcript" && message["role"] == "assistant"
        });
        told["text"].as_str().unwrap_or_default().to_owned()
    };
    let reload = |reads: usize| {
        daemon.signal("HUP");
        let read = "settings: read again";
        daemon.wait_until("read again", |it| it.log().matches(read).count() == reads);
    };
    assert!(told("say").contains("first"));
    folder.write("say.json", &says("second"));
    assert!(told("say").contains("first"), "not before it is told to");
    reload(1);
    assert!(told("say").contains("second"));
    folder.write("say.json", "{\"name\":\n\"say\",}");
    fs::remove_file(folder.0.join("other.json")).expect("it is there");
    reload(2);
    daemon.wait_for_log("say.json line 2: it is not JSON");
    daemon.wait_for_log("its last good version stays");
    assert!(told("say").contains("second"));
    assert!(!told("other").contains("The tool"), "the model is not offered what is gone");
    folder.write("say.json", &says("third"));
    reload(3);
    assert!(told("say").contains("third"));
}

#[test]
fn what_a_tool_writes_to_standard_error_is_logged_on_one_line_at_debug() {
    let script = "printf 'one\\nERROR forged \\033[2J' >&2; head -c 100000 /dev/zero | tr '\\0' x >&2; echo ok";
    let folder =
        Folder::new("errors").with("loud.json", &command("loud", &["sh", "-c", script], json!({})));
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
    let mut client = Client::connect(daemon.address);
    client.wait_until_active();
    assert_eq!(ask(&mut client, "loud", &json!({}))["state"], "done");
    daemon.wait_for_log("tool loud, standard error: one\\nERROR forged \\u{1b}[2Jxxx");
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("tool loud")).expect("it is there");
    assert!(line.len() < 4096 && line.contains("DEBUG"), "{line:.200}");
}

/// One run at a time; the others wait for their place, and all are answered.
#[test]
fn at_once_bounds_the_runs_of_a_tool() {
    let folder = Folder::new("at-once");
    let script = "mkdir lock || echo over >>seen; sleep 0.2; rmdir lock; echo run >>seen";
    let more = json!({"at_once": 1});
    folder.write("one.json", &command("one", &["sh", "-c", script], more));
    let service = Daemon::simulate(&["no-welcome"]);
    let daemon = Daemon::run(service.address, &[("VOICELIVED_TOOLS_DIR", folder.path())]);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(daemon.address)).collect();
    for client in &mut clients {
        client.wait_until_active();
        client.tell(&json!({"type": "text", "text": "one {}"}));
    }
    for client in &mut clients {
        client.wait_for("its end", |it| it["type"] == "tool" && it["state"] == "done");
    }
    let seen = fs::read_to_string(folder.0.join("seen")).expect("it ran");
    assert_eq!(seen, "run\n".repeat(4));
}

/// What a tool leaves running in the background holds neither its result nor the daemon.
#[test]
fn a_grandchild_that_keeps_the_pipe_does_not_keep_the_result() {
    // What came from it later would be part of a result that waits for it.
    let script = "(sleep 20; echo late) & echo done";
    let folder = Folder::new("grandchild")
        .with("leave.json", &command("leave", &["sh", "-c", script], json!({})));
    assert_eq!(folder.result("leave", "{}"), "done");
}
