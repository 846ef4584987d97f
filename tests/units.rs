//! The shipped units, as systemd's own tools judge them, and what they promise about this program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ten times the exposure that the unit may have: 1.2 is what the best public daemons have.
const THRESHOLD: &str = "--threshold=12";

const SOCKETS: [&str; 2] = ["voicelived.socket", "voicelived-http.socket"];

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

/// Copies for one test that name a program that exists: `verify` looks for it.
fn copies(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("units-{test}"));
    fs::create_dir_all(&folder).expect("a folder");
    let service = unit("voicelived.service");
    let program = env!("CARGO_BIN_EXE_voicelived");
    fs::write(folder.join("voicelived.service"), service.replace("/usr/bin/voicelived", program))
        .expect("a file");
    for name in SOCKETS {
        fs::write(folder.join(name), unit(name)).expect("a file");
    }
    folder
}

fn analyze(arguments: &[&str], files: &[PathBuf]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).args(files).output();
    let output = output.expect("this test needs systemd-analyze (Debian package systemd)");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn systemd_has_nothing_to_say_about_the_units() {
    let folder = copies("verified");
    let names = ["voicelived.service"].into_iter().chain(SOCKETS);
    let files: Vec<_> = names.map(|name| folder.join(name)).collect();
    let (good, text) = analyze(&["verify", "--man=no"], &files);
    // Unknown keys are only mentioned.
    assert!(good && text.is_empty(), "{text}");
    let broken = folder.join("broken.service");
    fs::write(&broken, unit("voicelived.service").replace("PrivateTmp=", "PrivateTemp="))
        .expect("a file");
    let (_, text) = analyze(&["verify", "--man=no"], &[broken]);
    assert!(text.contains("PrivateTemp"), "a wrong key would be seen: {text}");
}

#[test]
fn the_service_has_few_rights() {
    let files = [copies("rights").join("voicelived.service")];
    let (good, text) = analyze(&["security", "--offline=true", THRESHOLD], &files);
    assert!(good, "{text}");
}

/// What the manual tells an owner to relax for tools: systemd knows each directive, and each one changes what the
/// unit says, or adds to it.
#[test]
fn what_tools_may_need_is_what_the_unit_forbids() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let manual = fs::read_to_string(manual).expect("the manual");
    let (_, table) = manual.split_once("| A tool needs | Directive |\n").expect("the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let directives: Vec<&str> = quoted.filter(|text| text.contains('=')).collect();
    assert!(directives.len() >= 8, "{directives:?}");
    let service = unit("voicelived.service");
    let adds = ["DeviceAllow", "SupplementaryGroups", "ReadWritePaths"];
    let copies = copies("relaxed");
    let mut relaxed = fs::read_to_string(copies.join("voicelived.service")).expect("a copy");
    for directive in directives {
        let (key, value) = directive.split_once('=').expect("filtered");
        let own = service.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        assert!(own.is_some_and(|own| own != value) || adds.contains(&key), "{directive}: {own:?}");
        if !value.is_empty() {
            relaxed = relaxed.replace("[Install]", &format!("{directive}\n\n[Install]"));
        }
    }
    let path = copies.join("relaxed.service");
    fs::write(&path, relaxed).expect("a file");
    let (good, text) = analyze(&["verify", "--man=no"], &[path]);
    assert!(good && text.is_empty(), "{text}");
}

#[test]
fn what_the_units_name_is_what_the_program_knows() {
    let service = unit("voicelived.service");
    // The credential's name is the setting's, blank as long as there is none; EX_CONFIG is 78.
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "ExecStart=/usr/bin/voicelived run",
        "LoadCredential=AZURE_VOICE_LIVE_API_KEY:/etc/voicelived/api-key",
        "SetCredential=AZURE_VOICE_LIVE_API_KEY:\\x20",
        "LoadCredential=voicelived.env:/etc/voicelived/voicelived.env",
        "SetCredential=voicelived.env:\\x20",
        "RestartPreventExitStatus=78",
        // Without it the daemon that runs stands still when systemd starts another on its sockets.
        "NonBlocking=yes",
        "ExecStartPost=+-/bin/systemctl stop --no-block voicelived-next@*.service",
        "Also=voicelived.socket voicelived-http.socket",
    ] {
        assert!(service.lines().any(|found| found == line), "{line}");
    }
    for (name, purpose) in SOCKETS.into_iter().zip(["https", "http"]) {
        assert!(unit(name).contains(&format!("FileDescriptorName={purpose}\n")), "{name}");
    }
    assert!(unit(SOCKETS[1]).contains("Service=voicelived.service\n"));
}

#[test]
fn an_instance_is_no_part_of_a_handover() {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/template");
    let output = Command::new(template).output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ExecStart=/usr/bin/voicelived run --listen 127.0.0.1:800%i\n"));
    assert!(text.contains("StateDirectory=voicelived-%i\n"));
    // It would end those who stand in for the other service, and has no sockets.
    for foreign in ["ExecStartPost", "voicelived-next", "Also=", "stands in"] {
        assert!(!text.contains(foreign), "{foreign}: {text}");
    }
}

/// What the generator gives a systemd of that version, for the service and for the instances.
fn drop_ins(version: u32) -> [Option<String>; 2] {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("generator-{version}"));
    let _ = fs::remove_dir_all(&folder);
    let (tools, units) = (folder.join("bin"), folder.join("units"));
    fs::create_dir_all(&tools).and_then(|()| fs::create_dir_all(&units)).expect("folders");
    let systemctl = tools.join("systemctl");
    let says = format!("#!/bin/sh\necho 'systemd {version} ({version}.1-1)'\necho +PAM\n");
    crate::support::program::write(&systemctl, &says);
    let generator = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/voicelived-generator");
    let path = format!("{}:/usr/bin:/bin", tools.display());
    // As systemd calls it, with three folders.
    let status = Command::new(generator).args([&units; 3]).env("PATH", path).status();
    assert!(status.expect("a shell").success());
    ["voicelived.service.d", "voicelived@.service.d"]
        .map(|name| fs::read_to_string(units.join(name).join("10-newer-systemd.conf")).ok())
}

#[test]
fn only_a_newer_systemd_is_told_of_newer_settings() {
    assert_eq!(drop_ins(252), [None, None]);
    assert_eq!(drop_ins(253), [None, None]);
    for version in [254, 257] {
        let [service, instances] = drop_ins(version);
        let service = service.expect("a drop-in");
        // An ExecReload= of the unit's would send the signal a second time.
        for line in ["[Service]", "Type=notify-reload", "ExecReload=", "RestartSteps=5"] {
            assert!(service.lines().any(|found| found == line), "{line}");
        }
        // An instance's end is none of a handover's.
        let instances = instances.expect("a drop-in");
        assert!(service.starts_with(&instances) && service.contains("ExecStopPost="));
        assert!(!instances.contains("ExecStopPost="));
    }
}
