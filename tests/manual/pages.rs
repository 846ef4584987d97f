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
All is well; a daemon was told to stop.
.TP
.B 1
A call was not answered.
.TP
.B 64
The command line is wrong.
.TP
.BR 65 \", \" 66 \", \" 73 \", \" 74
A file has no use, cannot be read, cannot be made; reading or writing failed.
.TP
.B 69
The service, or an address to listen on, cannot be used.
.TP
.BR 70 \", \" 71
A fault of the program; the system refuses something.
.TP
.B 78
A setting is wrong or missing.
.SH SIGNALS
.TP
.BR SIGTERM \", \" SIGINT
End: no new calls; running ones are told and ended in order.
.TP
.B SIGHUP
Read settings that can change again. The log says what was taken over. When it comes because the
terminal that the program was started on has gone, the program ends as with SIGTERM.
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
Settings of the system's daemon.
.TP
.I /etc/voicelived/api\\-key
The service's key, for the system's daemon; only root needs to be able to read it.
.TP
.I /var/lib/voicelived
What the system's daemon keeps: access token, certificates, minutes of calls.
.SH EXAMPLES
.TP
.B voicelived demo
Try it: no account is needed.
.TP
.B journalctl \\-u voicelived
What the system's daemon has to say.
.TP
.B voicelived call \\-\\-in question.wav \\-\\-out answer.wav
Ask it something.
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
or a comment that begins with #; a comment needs a line of its own. A value with blanks stands in
double quotes. An empty value counts as unset. The same names in the environment win over
.IR .env ;
.I /etc/voicelived/voicelived.env
is read by
.BR systemd (1)
and becomes the environment of the daemon. All faults are told at once, and nothing starts with one.
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
            writeln!(page, ".br\nAlso accepted: {}.", others.join(", "))
                .expect("writing to memory");
        }
    }
    page += ".SH SEE ALSO\n.BR voicelived (1),\n.BR systemd.exec (5)\n";
    page
}

/// The packages' `/etc/voicelived/voicelived.env`.
pub(crate) fn settings_file() -> String {
    let mut text = String::from(
        "# Settings of the voicelived service; voicelived.env(5) is their manual.\n\
         # Remove the # before what you set, then: systemctl restart voicelived\n\
         #\n\
         # The key is better kept in a file of its own, which only root can read:\n\
         #     install -m 600 /dev/stdin /etc/voicelived/api-key     (paste it, Enter, Ctrl-D)\n\
         #\n\
         # The ports, HTTPS 8443 and for this device itself HTTP 8000, are set up by voicelived.socket\n\
         # and voicelived-http.socket, not here.\n",
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
