//! Tests of the table: what each mode adds, what is kept out, what the generated files say.

use super::*;
use crate::core::settings::OptionValue;

fn example() -> AgentPlan {
    AgentPlan {
        python: "/data/aider/bin/python".into(),
        agent_dir: "/data/agents/t 1".into(),
        worktree: "/data/worktrees/1".into(),
        model: "coder:7b".into(),
        num_ctx: 16_384,
        can_think: false,
        tuning: ModelTuning::default(),
        mode: Mode::Code,
        files: vec!["-odd.rs".into()],
        read: vec!["docs/a b.md".into()],
        map_tokens: 1_024,
        auto_lint: false,
        shell_commands: false,
        detect_urls: false,
        gateway_url: "http://127.0.0.1:4000/agent/t".into(),
        user_git_configs: vec!["/home/ä \"u\"/.gitconfig".into()],
        identity: None,
        slot: 3,
        port: 42_020,
        restore_chat: false,
        commit_subject: "first\nsecond".into(),
        nonce: "secret".into(),
        environment: BTreeMap::new(),
    }
}

fn file(launch: &Launch, name: &str) -> String {
    let is_it = |path: &PathBuf| path.ends_with(name);
    let found = launch.files.iter().find(|(path, _)| is_it(path));
    found.unwrap().1.clone()
}

fn value<'a>(argv: &'a [String], flag: &str) -> Option<&'a str> {
    let position = argv.iter().position(|it| it == flag)?;
    argv.get(position + 1).map(String::as_str)
}

#[test]
fn one_model_does_everything() {
    let argv = plan(&example()).unwrap().argv;
    for flag in ["--model", "--weak-model", "--editor-model"] {
        assert_eq!(value(&argv, flag), Some("ollama_chat/coder:7b"), "{flag}");
    }
    assert!(!argv.contains(&"--yes-always".to_owned()));
    assert_eq!(value(&argv, "--file"), Some("/data/worktrees/1/-odd.rs"));
    assert_eq!(value(&argv, "--timeout"), Some("3600"));
}

#[test]
fn each_mode_has_its_edit_format() {
    let formats = |mode, tuned: Option<&str>| {
        let mut example = example();
        example.mode = mode;
        example.tuning.edit_format = tuned.map(str::to_owned);
        let argv = plan(&example).unwrap().argv;
        let text = |flag| value(&argv, flag).map(str::to_owned);
        (text("--edit-format"), text("--editor-edit-format"))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(formats(Mode::Code, None), (None, None));
    assert_eq!(formats(Mode::Code, Some("udiff")), (some("udiff"), None));
    assert_eq!(formats(Mode::Ask, Some("udiff")), (some("ask"), None));
    assert_eq!(formats(Mode::Architect, None), (some("architect"), None));
    assert_eq!(
        formats(Mode::Architect, Some("diff")),
        (some("architect"), some("editor-diff"))
    );
}

#[test]
fn the_submitters_environment_is_kept_but_for_what_would_change_aider() {
    let mut example = example();
    let kept = ["PATH", "HOME", "CARGO_HOME", "XDG_CONFIG_HOME", "LC_ALL"];
    let dropped = [
        "AIDER_MODEL",
        "GIT_DIR",
        "LD_PRELOAD",
        "PYTHONPATH",
        "OPENAI_API_BASE",
        "https_proxy",
        "NO_COLOR",
        "COLUMNS",
        "SOME_API_KEY",
        "SQUAD_AIDER_COMMIT_MESSAGES",
    ];
    for name in kept.iter().chain(&dropped) {
        example.environment.insert((*name).into(), "mine".into());
    }
    let env = plan(&example).unwrap().env;
    for name in kept {
        assert_eq!(env.get(name).map(String::as_str), Some("mine"), "{name}");
    }
    for name in dropped {
        assert_eq!(env.get(name), None, "{name}");
    }
    assert_eq!(env["SQUAD_SLOT"], "3");
    assert_eq!(env["SQUAD_PORT"], "42020");
    assert_eq!(env["OLLAMA_API_BASE"], "http://127.0.0.1:4000/agent/t");
}

#[test]
fn an_empty_environment_still_has_what_programs_need() {
    let env = plan(&example()).unwrap().env;
    for name in ["PATH", "HOME", "LANG", "SHELL", "TERM"] {
        assert!(env.contains_key(name), "{name}");
    }
}

#[test]
fn model_settings_pin_the_context_and_never_keep_alive() {
    let mut example = example();
    example.can_think = true;
    example.tuning.temperature = Some(0.000_01);
    example.tuning.options = BTreeMap::from([
        ("num_ctx".to_owned(), OptionValue::Integer(4)),
        ("keep_alive".to_owned(), OptionValue::Text("1h".into())),
        ("stop".to_owned(), OptionValue::Text("\"x\": {y}".into())),
        ("temperature".to_owned(), OptionValue::Float(2.0)),
    ]);
    assert_eq!(
        file(&plan(&example).unwrap(), "model-settings.yml"),
        "- {\"name\": \"aider/extra_params\", \"extra_params\": {\"num_ctx\": 16384, \
         \"temperature\": 0.00001, \"think\": false, \"stop\": \"\\\"x\\\": {y}\"}}\n"
    );
}

#[test]
fn a_model_without_the_capability_is_not_told_to_think() {
    let mut example = example();
    example.tuning.thinking = Some(true);
    let settings = file(&plan(&example).unwrap(), "model-settings.yml");
    assert!(!settings.contains("think"), "{settings}");
    example.can_think = true;
    let settings = file(&plan(&example).unwrap(), "model-settings.yml");
    assert!(settings.contains("\"think\": true"), "{settings}");
}

#[test]
fn the_context_told_leaves_room_for_the_answer() {
    for (num_ctx, input) in [(2_048, 1_536), (16_384, 12_288), (131_072, 122_880)] {
        let mut example = example();
        example.num_ctx = num_ctx;
        let metadata = file(&plan(&example).unwrap(), "model-metadata.json");
        let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
        let entry = &metadata["ollama_chat/coder:7b"];
        assert_eq!(entry["max_input_tokens"], input);
        assert_eq!(entry["max_output_tokens"], num_ctx - input);
    }
}

#[test]
fn git_reads_the_users_configuration_and_our_changes() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own \"config\" ä");
    std::fs::write(&own, "[user]\n\tname = Own\n[commit]\n\tgpgSign = true\n").unwrap();
    let mut example = example();
    example.agent_dir = dir.path().join("agent");
    example.user_git_configs = vec![own, dir.path().join("absent")];
    example.identity = Some(Identity {
        name: "Ada \"L\" \\ Lovelace".into(),
        email: "ada@example.com".into(),
    });
    let launch = plan(&example).unwrap();
    launch.write().unwrap();
    let get = |key: &str| {
        let output = std::process::Command::new("git")
            .args(["config", "--get", key])
            .env_clear()
            .envs(&launch.env)
            .current_dir(dir.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(get("user.name"), "Ada \"L\" \\ Lovelace");
    assert_eq!(get("commit.gpgsign"), "false");
    assert_eq!(get("core.hookspath"), "/dev/null");
    assert_eq!(file(&launch, "commit-subject"), "first\n");
}

#[test]
fn the_files_are_for_the_user_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mut example = example();
    example.agent_dir = dir.path().join("agent");
    let launch = plan(&example).unwrap();
    launch.write().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&example.agent_dir), 0o700);
    for (path, _) in &launch.files {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_path_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut example = example();
    example.agent_dir = std::ffi::OsString::from_vec(vec![b'/', 0xff]).into();
    assert!(plan(&example).is_err());
}
