//! The manual pages in roff, and the settings file of the packages.

use std::fmt::Write as _;

use super::help::{Help, Part};
use voicelived::config::VARIABLES;

/// What stands below the commands in voicelived(1): `help` does not tell it.
const BELOW: &str = "\
.SH EXIT STATUS
The numbers are those of
.BR sysexits.h (3head):
.TP
.B 0
All is well. A daemon ends with this when it was told to stop.
.TP
.B 1
A call was not answered.
.TP
.B 64
The command line is wrong.
.TP
.BR 65 \", \" 66 \", \" 73 \", \" 74
A file is of the wrong kind (65), cannot be read (66) or cannot be made (73); or reading or writing
failed (74).
.TP
.B 69
The service, or an address to listen on, cannot be used.
.TP
.BR 70 \", \" 71
The program has a fault (70), or the system refuses something (71).
.TP
.B 78
A setting is wrong or missing.
.SH SIGNALS
.TP
.BR SIGTERM \", \" SIGINT
Stop. The daemon takes no new calls, tells the running ones, and ends them in order.
.TP
.B SIGHUP
Read the settings again. New calls use them. The log names each changed setting that needs a restart.
If the signal comes because the terminal of the program was closed, the program ends as with SIGTERM.
.SH ENVIRONMENT
Every setting is an environment variable; see
.BR voicelived.env (5).
.SH FILES
.TP
.I .env
Settings, in the folder where the program is started;
.B \\-\\-env\\-file
names another.
.TP
.I /etc/voicelived/voicelived.env
Settings of the daemon that systemd runs.
.TP
.I /etc/voicelived/api\\-key
The service's key, for the daemon that systemd runs. Only root has to be able to read it.
.TP
.I /var/lib/voicelived
State folder of the daemon that systemd runs: access token, certificates, minutes of calls.
.SH EXAMPLES
.TP
.B voicelived demo
Try it. You need no account.
.TP
.B journalctl \\-u voicelived
Read the log of the daemon that systemd runs.
.TP
.B voicelived call \\-\\-in question.wav \\-\\-out answer.wav
Ask the daemon on this machine something.
.SH SEE ALSO
.BR voicelived.env (5),
.BR systemctl (1),
.BR journalctl (1)
";

fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...");
    // A line must not begin with what roff takes for a request.
    text.strip_prefix(['.', '\'']).map_or_else(|| text.clone(), |_| format!("\\&{text}"))
}

fn title(name: &str, section: u8, manual: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".\\\" Made by tests/manual.rs from what the program says.\n\
         .TH {} {section} \"\" \"voicelived {version}\" \"{manual}\"\n",
        name.to_ascii_uppercase()
    )
}

/// voicelived(1).
pub(crate) fn voicelived(commands: &[Help]) -> String {
    let mut page = title("voicelived", 1, "User Commands");
    page += ".SH NAME\nvoicelived \\- voice calls from browsers to the Azure Voice Live API\n";
    page += ".SH SYNOPSIS\n.nf\n";
    let usages = commands.iter().flat_map(|help| &help.usages);
    for usage in usages.filter(|usage| !usage.contains("COMMAND")) {
        writeln!(page, "{}", escape(usage)).expect("writing to memory");
    }
    page += ".fi\n.SH DESCRIPTION\n";
    for help in commands {
        if help.command != "run" {
            writeln!(page, ".SH \"{}\"", help.command.to_ascii_uppercase())
                .expect("writing to memory");
        }
        for part in &help.parts {
            match part {
                Part::Paragraph(text) => {
                    writeln!(page, ".PP\n{}", escape(text)).expect("writing to memory")
                }
                Part::Heading(text) => {
                    writeln!(page, ".PP\n{}", escape(text)).expect("writing to memory");
                }
                Part::List(entries) => {
                    for (name, words) in entries {
                        writeln!(page, ".TP\n.B \"{}\"\n{}", escape(name), escape(words))
                            .expect("writing to memory");
                    }
                }
            }
        }
    }
    page + BELOW
}

/// voicelived.env(5).
pub(crate) fn settings() -> String {
    let mut page = title("voicelived.env", 5, "File Formats");
    page += "\
.SH NAME
voicelived.env \\- settings of voicelived
.SH SYNOPSIS
.I /etc/voicelived/voicelived.env
.PP
.I .env
.SH DESCRIPTION
Each line is
.IR NAME = value ,
or a comment. A comment begins with # and needs a line of its own. A value with blanks stands in
double quotes. An empty value counts as unset.
.PP
An environment variable wins over the same name in
.IR .env .
.BR systemd (1)
reads
.I /etc/voicelived/voicelived.env
and makes it the environment of the daemon. The daemon does not start with a wrong setting, and names
all wrong ones at once.
.SH SETTINGS
";
    let mut group = "";
    for variable in VARIABLES {
        if variable.group != group {
            group = variable.group;
            writeln!(page, ".SS {group}").expect("writing to memory");
        }
        writeln!(page, ".TP\n.B {}\n{}", variable.name, escape(variable.explanation))
            .expect("writing to memory");
        if !variable.default.is_empty() {
            writeln!(page, "Default: {}", escape(variable.default)).expect("writing to memory");
        }
        let others = variable.spellings();
        if let [_, others @ ..] = others.as_slice()
            && !others.is_empty()
        {
            // A name is never hyphenated.
            writeln!(page, ".br\nAlso accepted: \\%{}.", others.join(", \\%"))
                .expect("writing to memory");
        }
    }
    page += ".SH SEE ALSO\n.BR voicelived (1),\n.BR systemd.exec (5)\n";
    page
}

/// The packages' `/etc/voicelived/voicelived.env`.
pub(crate) fn settings_file() -> String {
    let mut text = String::from(
        "# Settings of the voicelived service. man voicelived.env describes them.\n\
         # Remove the # in front of each setting that you change, then: systemctl restart voicelived\n\
         #\n\
         # Keep the key in a file of its own, which only root can read, rather than here:\n\
         #     install -m 600 /dev/stdin /etc/voicelived/api-key     (paste it, Enter, Ctrl-D)\n\
         #\n\
         # The ports are not set here: voicelived.socket has HTTPS on 8443, and voicelived-http.socket\n\
         # has plain HTTP on 8000 for this device itself.\n",
    );
    let mut group = "";
    for variable in VARIABLES {
        if variable.group != group {
            group = variable.group;
            write!(text, "\n# --- {group} ---\n").expect("writing to memory");
        }
        let quote = if variable.default.contains(' ') { "\"" } else { "" };
        let (name, value) = (variable.name, variable.default);
        write!(text, "\n# {}\n#{name}={quote}{value}{quote}\n", variable.explanation)
            .expect("writing to memory");
    }
    text
}
