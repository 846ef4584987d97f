//! The file of an owner's tool, and behind a zero byte the arguments that a model calls it with.

use std::path::Path;

use serde_json::{Map, Value};
use voicelived::tools::file::parse;
use voicelived::tools::web::Web;
use voicelived::tools::{Backing, Tool, Tools};

/// A file and arguments: a fault has a line of the file, and no arguments leave their places.
pub fn fuzz_tool_file(data: &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let mut half = || String::from_utf8_lossy(halves.next().unwrap_or_default()).into_owned();
    let (file, arguments) = (half(), half());
    let folder = Path::new("/tools");
    match parse(&file, Path::new("/tools/x.json"), folder, Path::new("/credentials")) {
        Err(fault) => {
            let lines = file.matches('\n').count() + 1;
            assert!((1..=lines).contains(&fault.line), "{fault:?}");
            assert!(!fault.reason.is_empty(), "{fault:?}");
        }
        Ok(tool) => check(tool, &arguments),
    }
}

fn check(tool: Tool, arguments: &str) {
    assert!(!tool.name.is_empty() && tool.name.len() <= 64 && tool.name.is_ascii());
    assert!((1..=120).contains(&tool.limits.timeout.as_secs()));
    assert!(
        (1..=65_536).contains(&tool.limits.max_output) && (1..=16).contains(&tool.limits.at_once)
    );
    let backing = tool.backing.clone();
    let mut tools = Tools::default();
    let name = tool.name.clone();
    assert!(tools.add(tool).is_ok());
    let Ok((_, arguments)) = tools.check(&name, arguments) else { return };
    assert!(!arguments.contains('\n'), "the arguments are one line");
    let Backing::Web { origin, job } = backing else { return };
    let job: Value = serde_json::from_str(&job).expect("a job is JSON");
    let web = Web::parse(&job["http"], &job["parameters"], Path::new("/credentials"));
    let web = web.expect("what was accepted once is accepted again");
    let arguments: Map<String, Value> = serde_json::from_str(&arguments).expect("an object");
    let Ok(request) = web.request(&arguments, &|_| Ok("a secret".to_owned())) else { return };
    assert_eq!(request.origin, origin);
    let target = request.target.as_bytes();
    assert!(target.starts_with(b"/") && !target.iter().any(|byte| *byte <= b' ' || *byte == b'#'));
    assert!(
        !request.target.split('?').next().unwrap_or_default().split('/').any(|part| part == "..")
    );
    for (name, value) in &request.headers {
        assert!(!format!("{name}{value}").contains(char::is_control), "{name:?}: {value:?}");
        assert!(!name.eq_ignore_ascii_case("host"));
    }
    if job["http"]["body"].is_object() {
        let body = request.body.expect("there is one");
        let body: Value = serde_json::from_str(&body).expect("JSON stays JSON");
        let known = job["http"]["body"].as_object().expect("an object");
        assert!(body.as_object().expect("one too").keys().all(|name| known.contains_key(name)));
    }
}
