//! `vexact completions`: the script of a shell, and the completions that such a script asks for.
//!
//! The scripts of bash, zsh and fish call `vexact __complete`, which knows the values of options,
//! the runs of the workspace, and the commands that `vexact run start --` takes. A shell completes
//! the names of files itself where nothing is printed.

use clap::{Arg, ArgAction, Args, Command, CommandFactory, ValueHint};
use clap_complete::Shell;
use vexact_workspace::{RunFilter, Workspace};

use super::action::Only;
use super::arguments::Cli;

/// Runs that are completed, the newest first.
const RUNS: usize = 50;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vexact completions bash > ~/.local/share/bash-completion/completions/vexact
  vexact completions zsh > ~/.zfunc/_vexact
  vexact completions fish > ~/.config/fish/completions/vexact.fish")]
pub(super) struct Completions {
    /// The shell
    pub shell: Shell,
}

const BASH: &str = r#"_vexact() {
    local IFS=$'\n'
    COMPREPLY=($(vexact __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -o bashdefault -F _vexact vexact
"#;

const ZSH: &str = r#"#compdef vexact
_vexact() {
    local -a found
    found=(${(f)"$(vexact __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${#found} )); then
        compadd -- $found
    else
        _files
    fi
}
if [ "$funcstack[1]" = "_vexact" ]; then
    _vexact "$@"
else
    compdef _vexact vexact
fi
"#;

const FISH: &str = r#"function __vexact_complete
    set -l words (commandline -opc) (commandline -ct)
    vexact __complete -- $words[2..-1] 2>/dev/null
end
complete -c vexact -a "(__vexact_complete)"
"#;

impl Completions {
    /// The script.
    pub fn script(&self) -> String {
        match self.shell {
            Shell::Bash => BASH.into(),
            Shell::Zsh => ZSH.into(),
            Shell::Fish => FISH.into(),
            shell => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "vexact", &mut script);
                String::from_utf8_lossy(&script).into_owned()
            }
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Complete {
    /// The words after the program's name, up to the one that is completed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

impl Complete {
    /// Returns the completions of the last word, a line each; nothing where it is the name of a
    /// file.
    pub fn candidates(&self) -> String {
        let found = candidates(&self.words, &runs);
        found.into_iter().map(|candidate| candidate + "\n").collect()
    }
}

/// Returns the ids of the newest runs. A workspace that is not there is not created.
fn runs() -> Vec<String> {
    let open = || {
        let root = Workspace::default_root().ok().filter(|root| root.is_dir())?;
        Workspace::open(&root).ok()?.runs(&RunFilter { limit: Some(RUNS), ..RunFilter::default() }).ok()
    };
    open().unwrap_or_default().into_iter().map(|run| run.run_id).collect()
}

/// Returns the completions of the last word.
fn candidates(words: &[String], runs: &dyn Fn() -> Vec<String>) -> Vec<String> {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let mut command = Cli::command();
    command.build();
    let mut option: Option<Arg> = None;
    let mut is_positional = false;
    for word in before {
        if option.take().is_some() {
            continue;
        }
        match word.as_str() {
            // The command after `run start` has the options of an action.
            "--" if command.get_name() == "start" => {
                command = Only::command();
                command.build();
            }
            "--" => is_positional = true,
            word if word.starts_with('-') && !is_positional => {
                option = find(&command, word).filter(|arg| takes_value(arg) && !word.contains('='));
            }
            word => {
                if let Some(found) = command.find_subcommand(word) {
                    command = found.clone();
                }
            }
        }
    }
    let found = match option {
        Some(option) => values(&option, runs),
        None if last.starts_with('-') && !is_positional => options(&command),
        None => commands(&command, runs),
    };
    found.into_iter().filter(|candidate| candidate.starts_with(last)).collect()
}

fn find(command: &Command, word: &str) -> Option<Arg> {
    let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    let is_named =
        |arg: &&Arg| arg.get_long() == Some(name) || arg.get_short().is_some_and(|short| name == short.to_string());
    command.get_arguments().find(is_named).cloned()
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn options(command: &Command) -> Vec<String> {
    let options = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
    options.map(|name| format!("--{name}")).collect()
}

fn commands(command: &Command, runs: &dyn Fn() -> Vec<String>) -> Vec<String> {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let mut found: Vec<String> = commands.map(|command| command.get_name().to_owned()).collect();
    for arg in command.get_positionals() {
        found.extend(values(arg, runs));
    }
    found
}

/// Returns the values of an option; none where they are names of files, or anything.
fn values(arg: &Arg, runs: &dyn Fn() -> Vec<String>) -> Vec<String> {
    let known = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    match arg.get_id().as_str() {
        "run_id" | "other_run_id" => std::iter::once("latest".to_owned()).chain(runs()).collect(),
        "metric" => known(&["cosine", "dot", "l2"]),
        "status" => known(&["running", "succeeded", "failed", "timed_out", "cancelled"]),
        "mode" => known(&["destructive", "temporal"]),
        "storage_mode" => known(&["parquet", "arrow_ipc"]),
        "action" if arg.get_long().is_some() => {
            Only::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
        }
        _ if !matches!(arg.get_value_hint(), ValueHint::Unknown) => Vec::new(),
        _ => {
            let possible = arg.get_possible_values();
            possible.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        candidates(&words, &|| vec!["20260131T120000Z_0123abcd".into()])
    }

    #[test]
    fn commands_options_and_values_are_completed() {
        assert_eq!(completed("vec"), ["vector-search"]);
        assert_eq!(completed("db se"), ["search"]);
        assert_eq!(completed("db search --met"), ["--metric"]);
        assert_eq!(completed("db search --metric "), ["cosine", "dot", "l2"]);
        assert_eq!(completed("db search --metric l2 --top"), ["--top-k"]);
        assert_eq!(completed("file-sql --input-type pa"), ["parquet"]);
        assert_eq!(completed("csv-sql --format t"), ["table"]);
        assert_eq!(completed("run show --run-id "), ["latest", "20260131T120000Z_0123abcd"]);
        assert_eq!(completed("run list --status ca"), ["cancelled"]);
        assert_eq!(completed("completions b"), ["bash"]);
        assert!(completed("").contains(&"sql".to_owned()) && !completed("").contains(&"__complete".to_owned()));
    }

    #[test]
    fn an_action_after_the_dashes_of_a_run_is_completed() {
        assert_eq!(completed("run start --tag x -- vec"), ["vector-search"]);
        assert_eq!(completed("run start -- vector-search --metric c"), ["cosine"]);
        assert_eq!(completed("run start -- csv-sql --quer"), ["--query"]);
        assert_eq!(completed("run list --action file"), ["file-sql"]);
    }

    #[test]
    fn names_of_files_are_left_to_the_shell() {
        assert!(completed("csv-sql --csv doc").is_empty());
        assert!(completed("db query --db a").is_empty());
    }
}
