//! The completion for bash.

use std::fmt::Write as _;

use super::help::Help;

const HEAD: &str = "\
# Completion of voicelived for bash. Made by tests/manual.rs from what --help says.
_voicelived() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=run
  local commands=\"";

/// Works without the bash-completion package's helpers.
pub(crate) fn bash(commands: &[Help]) -> String {
    let mut text = String::from(HEAD);
    let names: Vec<_> = commands.iter().map(|help| help.command.as_str()).collect();
    writeln!(text, "{}\"", names.join(" ")).expect("writing to memory");
    let mut files: Vec<_> = commands
        .iter()
        .flat_map(Help::options)
        .filter(|option| option.value.as_ref().is_some_and(|value| value.contains("FILE")))
        .map(|option| option.name)
        .collect();
    files.sort();
    files.dedup();
    let mut others: Vec<_> = commands
        .iter()
        .flat_map(Help::options)
        .filter(|option| option.value.is_some() && !files.contains(&option.name))
        .map(|option| option.name)
        .collect();
    others.sort();
    others.dedup();
    text += "  COMPREPLY=()\n  case $before in\n";
    writeln!(
        text,
        "    {}) mapfile -t COMPREPLY < <(compgen -f -- \"$current\"); return ;;",
        files.join(" | ")
    )
    .expect("writing to memory");
    writeln!(text, "    {}) return ;;\n  esac", others.join(" | ")).expect("writing to memory");
    text += "  case ${COMP_WORDS[1]} in
    -* | '') ;;
    *) [ \"$COMP_CWORD\" -gt 1 ] && command=${COMP_WORDS[1]} ;;
  esac
  local options
  case $command in
    help) options=$commands ;;
";
    for help in commands {
        let options: Vec<_> = help.options().into_iter().map(|option| option.name).collect();
        writeln!(text, "    {}) options=\"{}\" ;;", help.command, options.join(" "))
            .expect("writing to memory");
    }
    text += "  esac
  [[ $COMP_CWORD -eq 1 && $current != -* ]] && options=$commands
  mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$current\")
}
complete -o filenames -F _voicelived voicelived
";
    text
}
