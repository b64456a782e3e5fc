//! Places over places, `extends`, and what is said about mistakes.

use super::*;
use crate::core::task::Mode;

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn user(&self, name: &str, text: &str) {
        write(&self.0.path().join("user"), name, text);
    }

    fn repository(&self, name: &str, text: &str) {
        let folder = self.0.path().join("repo").join(REPOSITORY_FOLDER);
        write(&folder, name, text);
    }

    fn library(&self) -> Library {
        let place = |name: &str| self.0.path().join(name);
        Library::open(Some(&place("user")), Some(&place("repo")))
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

const WHOLE: &str = "title = \"T\"\nsummary = \"S.\"\nprompt = \"{task}\"\n";

#[test]
fn a_repository_wins_over_the_user_and_the_user_over_what_is_built_in() {
    let world = World::new();
    let built_in = world.library().get("reviewer").unwrap().clone();
    assert_eq!(built_in.shelf, Shelf::BuiltIn);
    world.user("reviewer.toml", WHOLE);
    world.user("mine.toml", WHOLE);
    let library = world.library();
    assert_eq!(library.get("reviewer").unwrap().shelf.as_str(), "user");
    assert_eq!(library.get("reviewer").unwrap().prompt, "{task}");
    world.repository("reviewer.toml", "extends = \"reviewer\"\nmode = \"code\"\n");
    let found = world.library().get("reviewer").unwrap().clone();
    assert_eq!(found.shelf.as_str(), "repository");
    assert_eq!((found.mode, found.title.as_str()), (Mode::Code, "T"));
    assert_eq!(world.library().all().len(), built_in::FILES.len() + 1);
}

#[test]
fn what_extends_adds_know_how_and_files_and_overrides_the_rest() {
    let world = World::new();
    world.user(
        "base.toml",
        &format!("{WHOLE}notes = \"- one\"\nread = [\"A\"]\nverify = \"make check\"\n"),
    );
    world.user(
        "child.toml",
        "extends = \"base\"\ntitle = \"Child\"\nnotes = \"- two\"\nread = [\"B\", \"A\"]\n",
    );
    let child = world.library().get("child").unwrap().clone();
    assert_eq!(child.notes, "- one\n- two");
    assert_eq!(child.read, ["A", "B"]);
    assert_eq!(child.title, "Child");
    assert_eq!(child.check.unwrap().command, "make check");
    assert_eq!(child.extends.as_deref(), Some("base"));
}

#[test]
fn an_unknown_name_brings_the_nearest_one() {
    let missing = World::new().library().get("rust-implementor").cloned();
    assert_eq!(
        missing,
        Err(Missing::Unknown {
            name: "rust-implementor".into(),
            meant: Some("rust-implementer".into()),
        })
    );
}

#[test]
fn a_file_with_mistakes_hides_the_one_below_it_and_says_why() {
    let world = World::new();
    world.user("reviewer.toml", "prompt = 3\n");
    world.user("circle.toml", "extends = \"round\"\n");
    world.user("round.toml", "extends = \"circle\"\n");
    world.user("orphan.toml", "title = \"O\"\nextends = \"reviwer\"\n");
    world.user("a b.toml", WHOLE);
    let library = world.library();
    let said = |name: &str| match library.get(name) {
        Err(Missing::Broken { mistakes, .. }) => mistakes[0].to_string(),
        other => panic!("{other:?}"),
    };
    assert!(said("reviewer").contains("reviewer.toml:1: prompt is 3"));
    assert!(said("circle").contains("in a circle"), "{}", said("circle"));
    let orphan = said("orphan");
    assert!(orphan.contains("orphan.toml:2: extends names \"reviwer\""));
    assert!(orphan.contains("did you mean \"reviewer\"?"));
    assert!(said("a b").contains("its name is no template's"));
    assert!(library.get("debugger").is_ok());
    assert_eq!(library.mistakes().len(), 5, "{:?}", library.mistakes());
}

#[test]
fn only_a_repositorys_own_commands_are_proposals() {
    let world = World::new();
    world.user("mine.toml", &format!("{WHOLE}verify = \"mine\"\n"));
    world.repository("ours.toml", &format!("{WHOLE}verify = \"ours\"\n"));
    world.repository("rusty.toml", "extends = \"rust-implementer\"\n");
    world.repository("bad.toml", "verify = \"bad\"\nx = 1\n");
    let found = proposals(&world.0.path().join("repo"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].key, "templates.ours.verify");
    assert_eq!(found[0].value, "\"ours\"");
    assert_eq!(found[0].file, ".warpsquad/templates/ours.toml");
    assert_eq!(found[0].line, 4);
    let library = world.library();
    let is_proposed = |name: &str| {
        library
            .get(name)
            .unwrap()
            .check
            .clone()
            .unwrap()
            .is_proposed
    };
    assert!(is_proposed("ours"));
    assert!(!is_proposed("mine") && !is_proposed("rusty"));
}
