//! The manual pages, the shell completion and the packages' settings file are made from what the
//! program says and knows: `UPDATE=1 cargo test --test all manual::` writes them anew.

mod completion;
mod help;
mod pages;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use help::Help;
use voicelived::config::VARIABLES;

fn in_packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// The file says what it should; with `UPDATE` set it is made to.
fn is_made_from_the_program(name: &str, expected: &str) {
    let path = in_packaging(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, expected).expect("it can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "packaging/{name} is not what the program says: UPDATE=1 cargo test --test all manual::"
    );
}

/// What a program prints when it gets this text, and that it is content.
fn output(program: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "100")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|fault| panic!("{program}: {fault}"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{program}: {complaints}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn the_manual_is_what_help_says() {
    is_made_from_the_program("voicelived.1", &pages::voicelived(&Help::of_all()));
}

#[test]
fn the_manual_of_settings_is_what_the_code_knows() {
    is_made_from_the_program("voicelived.env.5", &pages::settings());
}

#[test]
fn the_packages_settings_file_is_what_the_code_knows() {
    is_made_from_the_program("voicelived.env", &pages::settings_file());
}

#[test]
fn the_completion_is_what_help_says() {
    is_made_from_the_program("completion.bash", &completion::bash(&Help::of_all()));
}

/// A reader sees every option with its words, and every setting.
#[test]
fn groff_shows_the_pages_and_complains_about_nothing() {
    let shown = |name: &str| {
        let page = std::fs::read_to_string(in_packaging(name)).unwrap();
        // -P-c -P-b -P-u: no colours, no bold, no underlines.
        output("groff", &["-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u"], &page)
    };
    let manual = shown("voicelived.1");
    for help in Help::of_all() {
        for option in help.options() {
            assert!(manual.contains(&option.name), "{}: {}", help.command, option.name);
        }
    }
    assert!(!manual.contains("\\f"), "{manual}");
    let settings = shown("voicelived.env.5");
    for variable in VARIABLES {
        for spelling in variable.spellings() {
            assert!(settings.contains(&spelling), "{spelling}");
        }
    }
}

/// What bash offers after these words, the last of which is being typed.
fn offered(words: &str) -> Vec<String> {
    let script = format!(
        "source '{}'\n\
         COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n_voicelived\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        in_packaging("completion.bash").display()
    );
    let words = output("bash", &[], &script);
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_offers_what_fits() {
    let everything = Help::of_all();
    let commands: Vec<_> = everything.iter().map(|help| help.command.clone()).collect();
    assert_eq!(offered("voicelived ''"), commands);
    assert_eq!(offered("voicelived de"), ["demo"]);
    assert_eq!(offered("voicelived help ca"), ["call"]);
    for help in &everything {
        let names: Vec<_> = help.options().into_iter().map(|option| option.name).collect();
        assert!(names.contains(&"--help".to_owned()), "{names:?}");
        assert_eq!(offered(&format!("voicelived {} --", help.command)), names);
    }
    let run: Vec<_> = everything[0].options().into_iter().map(|option| option.name).collect();
    assert_eq!(offered("voicelived --"), run);
    assert_eq!(offered("voicelived call --ti"), ["--timeout"]);
    assert_eq!(offered("voicelived call --timeout ''"), [""; 0]);
    let file = format!("{}/Cargo.tom", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(offered(&format!("voicelived call --in {file}")), [format!("{file}l")]);
    assert_eq!(offered("voicelived call --in x.wav --ou"), ["--out"]);
}

/// The program accepts every option that the manual and the completion tell of.
#[test]
fn no_option_is_told_of_that_the_program_does_not_know() {
    for help in Help::of_all() {
        for option in help.options() {
            let mut words = vec![help.command.clone(), option.name.clone()];
            // Not the values themselves are tried, so each fails for another reason or is help.
            words.extend(option.value.iter().map(|_| "x".to_owned()));
            words.push("--help".to_owned());
            let parsed = voicelived::cli::args::parse(words.iter().map(Into::into));
            let fault = parsed.err().map(|fault| fault.to_string()).unwrap_or_default();
            assert!(!fault.contains("invalid option"), "{words:?}: {fault}");
        }
    }
}
