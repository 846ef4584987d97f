//! The help texts of the commands. Manual pages and completion are made from them (`tests/manual.rs`).

use super::args::Topic;

/// The help text of a topic, ending in a line break.
#[must_use]
pub(super) fn help(topic: Topic) -> &'static str {
    match topic {
        Topic::Main => MAIN_HELP,
        Topic::Demo => DEMO_HELP,
        Topic::Check => CHECK_HELP,
        Topic::Simulate => SIMULATE_HELP,
        Topic::Call => CALL_HELP,
        Topic::Tools => TOOLS_HELP,
    }
}

const MAIN_HELP: &str = "\
voicelived relays voice calls between browsers and the Azure Voice Live API.

Usage: voicelived [run] [--env-file FILE] [--listen ADDRESS:PORT]
       voicelived COMMAND [OPTIONS]

Commands:
  run        run the daemon; voicelived without a command does the same
  demo       run the daemon with a built-in simulator in place of the service
  check      test the settings and the connection to the service
  simulate   run the simulated service alone
  call       make a call from the command line
  tools      list the tools that calls may use, or run one

Options:
  --env-file FILE        read settings from FILE instead of .env
  --listen ADDRESS:PORT  listen on this address (default 127.0.0.1:8000)
  -h, --help             show this text; COMMAND --help describes a command
  -V, --version          show the version

Settings are environment variables; .env.example lists them all.
";

const DEMO_HELP: &str = "\
voicelived demo runs the daemon with a built-in simulator in place of the service.
It needs no account, no network and no settings. Open the address that it prints.

Usage: voicelived demo [OPTIONS]

  --env-file FILE        read FILE in place of .env
  --listen ADDRESS:PORT  listen on this address in place of VOICELIVED_LISTEN
  --fault FAULT          let the simulator misbehave in this way; may be given several
                         times (voicelived simulate --help lists the ways)
";

const CHECK_HELP: &str = "\
voicelived check reads the settings, connects to the service, logs in and sets up a
session. It prints each step with its time.

Usage: voicelived check [OPTIONS]

  --env-file FILE        read FILE in place of .env
  --service              use the settings of the installed service: voicelived.env as
                         systemd reads it, and the key in /etc/voicelived/api-key

Exit status: 0 if all is well, 78 if a setting is wrong, 69 if the service fails.
";

const SIMULATE_HELP: &str = "\
voicelived simulate runs the simulated service alone, to try and test clients of it.

Usage: voicelived simulate [OPTIONS]

  --listen ADDRESS:PORT  listen on this address (default 127.0.0.1:9000)
  --cert FILE --key FILE speak wss:// instead of ws://, with these PEM files
  --fault FAULT          misbehave in this way; may be given several times
";

const TOOLS_HELP: &str = "\
voicelived tools lists the tools that the model may use in calls: where each comes from,
and the faults of your own. MCP servers are started for it, as you, and asked. With run
it runs one as a call would, prints what the model would get, and to standard error how
long it took.

Usage: voicelived tools [OPTIONS]
       voicelived tools [OPTIONS] run NAME ['{\"ARGUMENT\":\"VALUE\"}']

  --dir DIR              look for tools in DIR alone, and neither in VOICELIVED_TOOLS_DIR
                         nor at MCP servers
  --env-file FILE        read FILE in place of .env
  --service              use the settings of the installed service, as check does

Exit status: 0 if all is well, 78 if a file or a server has a fault, 1 if the run failed.
";

const CALL_HELP: &str = "\
voicelived call makes one call to a daemon and prints transcripts and latencies.

Usage: voicelived call [OPTIONS]

  --in FILE.wav      say this (PCM, 16 bit, mono, 24000 Hz). With - in place of the
                     file, or with neither --in nor --text, say what comes from
                     standard input: raw PCM of that kind
  --text TEXT        type this; with --in, type it after the speech
  --out FILE.wav     write the answer to this file
  --url URL          call this daemon (default ws://127.0.0.1:8000); /ws is added
  --ca FILE          trust the certificate authorities in this PEM file too. A daemon
                     with a local authority has it as ca.pem in its state folder, and
                     serves it as /ca.pem
  --token-file FILE  show the access token in this file. Without it, the token comes from
                     VOICELIVED_ACCESS_TOKEN or VOICELIVED_ACCESS_TOKEN_FILE, in the
                     environment or in .env
  --send-token-unencrypted
                     send the token to a ws:// address of another machine too, where
                     everybody on the way can read it. Without this, call refuses to
  --env-file FILE    read FILE instead of .env
  --timeout SECONDS  give up if no answer begins in this time (default 30)

Exit status: 0 if the call was answered.
";
