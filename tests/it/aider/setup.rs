//! `setup` with stand-ins for the installers and the real Aider behind them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use warpsquad::agents::setup::{Phase, Progress, Setup, SetupError};

use super::world::{make_executable, names, python};

/// A machine with one Python 3.11 whose `venv` and `pip` are scripts.
struct Machine {
    dir: TempDir,
}

impl Machine {
    /// `pip` is what `python -m pip install` does.
    fn new(pip: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let machine = Self { dir };
        let real = python();
        let real = real.display();
        let log = machine.dir.path().join("installs");
        let log = log.display();
        // In an environment: everything but pip goes to the real interpreter.
        let inner = format!(
            "#!/bin/sh\ncase \"$*\" in *'-m pip install'*) echo x >> '{log}'\n{pip}\n;; \
             *) exec '{real}' \"$@\" ;; esac\n"
        );
        let template = machine.script("template", &inner);
        let bin = machine.dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let fake = machine.script(
            "bin/python3.11",
            &format!(
                "#!/bin/sh\nfor last; do :; done\ncase \"$*\" in\n\
                 *'-m venv'*) mkdir -p \"$last/bin\" && cp '{}' \"$last/bin/python\" ;;\n\
                 *) echo '{{\"version\": [3, 12, 99], \"path\": \"'$0'\", \
                 \"implementation\": \"cpython\"}}' ;; esac\n",
                template.display()
            ),
        );
        assert!(fake.is_file());
        machine
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        make_executable(&path);
        path
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data äß")
    }

    fn setup(&self) -> Setup {
        let bin = self.dir.path().join("bin");
        // A PATH with our interpreter first; the tools that the scripts need behind it.
        let path = format!("{}:/usr/bin:/bin", bin.display());
        let home = self.dir.path().display().to_string();
        let environment = BTreeMap::from([("PATH".into(), path), ("HOME".into(), home)]);
        Setup::new(&self.data(), environment)
    }

    fn installs(&self) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("installs"));
        log.unwrap_or_default().lines().count()
    }

    fn environments(&self) -> Vec<String> {
        let mut names = names(&self.data().join("aider"));
        names.retain(|name| name.starts_with("0.86.2-"));
        names
    }
}

fn install(setup: &Setup) -> (Result<PathBuf, SetupError>, Vec<Progress>) {
    let mut said = Vec::new();
    let result = setup.install(&mut |progress| said.push(progress));
    (result, said)
}

const WORKS: &str = "echo Collecting aider-chat; echo Successfully installed";

#[test]
fn an_installation_is_made_once_and_found_again() {
    let machine = Machine::new(WORKS);
    let setup = machine.setup();
    assert_eq!(setup.ready(), None);
    assert!(matches!(setup.check(), Err(SetupError::NotInstalled(_))));

    let (result, said) = install(&setup);
    let interpreter = result.unwrap();
    assert_eq!(setup.ready(), Some(interpreter.clone()));
    assert_eq!(setup.check().unwrap().aider, "0.86.2");
    let percents: Vec<u8> = said.iter().map(|progress| progress.percent).collect();
    assert!(percents.is_sorted(), "{percents:?}");
    assert_eq!(said.last().unwrap().phase, Phase::Done);

    let (again, _) = install(&setup);
    assert_eq!(again.unwrap(), interpreter);
    assert_eq!(machine.installs(), 1);
    assert_eq!(machine.environments().len(), 1);
}

#[test]
fn what_an_interrupted_run_left_is_removed_and_a_broken_one_replaced() {
    let machine = Machine::new(WORKS);
    let leftover = machine.data().join("aider/0.86.2-interrupted/bin");
    std::fs::create_dir_all(&leftover).unwrap();
    let setup = machine.setup();
    let broken = install(&setup).0.unwrap();
    assert_eq!(machine.environments().len(), 1);
    std::fs::remove_file(&broken).unwrap();
    assert_eq!(setup.ready(), None);
    let replaced = install(&setup).0.unwrap();
    assert_ne!(replaced, broken);
    assert_eq!(setup.ready(), Some(replaced));
    assert_eq!(machine.environments().len(), 1);
}

#[test]
fn two_at_once_install_once() {
    let machine = Machine::new(WORKS);
    let setup = machine.setup();
    let other = setup.clone();
    let thread = std::thread::spawn(move || install(&other).0.unwrap());
    let mine = install(&setup).0.unwrap();
    assert_eq!(thread.join().unwrap(), mine);
    assert_eq!(machine.installs(), 1);
}

#[test]
fn each_failure_says_what_to_do_and_leaves_nothing_behind() {
    let cases = [
        (
            "echo 'Failed to establish a new connection: [Errno -2]'; exit 1",
            "the Python package index could not be reached: Failed to establish a new \
             connection: [Errno -2]",
        ),
        (
            "echo 'OSError: [Errno 28] No space left on device'; exit 1",
            "has too little space",
        ),
        (
            "echo 'ERROR: broken wheel'; exit 1",
            "pip install failed: ERROR: broken wheel",
        ),
    ];
    for (pip, message) in cases {
        let machine = Machine::new(pip);
        let error = install(&machine.setup()).0.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(!error.hint().is_empty());
        assert_eq!(machine.environments(), Vec::<String>::new());
        assert_eq!(machine.setup().ready(), None);
    }
}

#[test]
fn an_aider_that_does_not_fit_is_not_taken() {
    let machine = Machine::new(WORKS);
    let setup = machine.setup();
    let other = machine.script("other", "#!/bin/sh\necho 'Aider is 0.99' >&2\nexit 70\n");
    let error = setup.check_python(&other).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("cannot run Aider 0.86.2: Aider is 0.99"),
        "{error}"
    );
    let missing = setup
        .check_python(Path::new("/nowhere/python"))
        .unwrap_err();
    assert!(matches!(missing, SetupError::Unusable { .. }));
}
