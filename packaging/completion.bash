# Completion of voicelived for bash. Made by tests/manual.rs from what --help says.
_voicelived() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=run
  local commands="run demo check simulate call tools"
  COMPREPLY=()
  case $before in
    --ca | --cert | --env-file | --in | --key | --out | --token-file) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --dir | --fault | --listen | --text | --timeout | --url) return ;;
  esac
  case ${COMP_WORDS[1]} in
    -* | '') ;;
    *) [ "$COMP_CWORD" -gt 1 ] && command=${COMP_WORDS[1]} ;;
  esac
  local options
  case $command in
    help) options=$commands ;;
    run) options="--env-file --listen --help --version" ;;
    demo) options="--env-file --listen --fault --help --version" ;;
    check) options="--env-file --service --help --version" ;;
    simulate) options="--listen --cert --key --fault --help --version" ;;
    call) options="--in --text --out --url --ca --token-file --send-token-unencrypted --env-file --timeout --help --version" ;;
    tools) options="--dir --env-file --service --help --version" ;;
  esac
  [[ $COMP_CWORD -eq 1 && $current != -* ]] && options=$commands
  mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
}
complete -o filenames -F _voicelived voicelived
