//! What the zygote does so that forks share its memory, in the interpreter that runs Aider.

use std::process::Command;

use super::python;

/// Says in its last line what `expression` gives, once `share` is imported and `before` is done.
fn ask(before: &str, expression: &str) -> serde_json::Value {
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/aider");
    let code = format!(
        "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {assets:?})\n\
         import gc, json, os, share\n{before}\nprint(json.dumps({expression}))"
    );
    let output = Command::new(python())
        .args(["-I", "-X", "utf8", "-c", &code])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// KiB that a fork copies when it only reads 400,000 objects of its parent's.
#[cfg(target_os = "linux")]
fn copied_by_a_reader(before: &str) -> i64 {
    let reader = "
objects = [[str(n)] for n in range(200_000)]
BEFORE
read, write = os.pipe()
if os.fork() == 0:
    for outer in objects:
        inner = outer[0]
    with open('/proc/self/smaps_rollup') as file:
        lines = dict(line.split(':', 1) for line in file if ':' in line)
    os.write(write, lines['Private_Dirty'].split()[0].encode())
    os._exit(0)
os.close(write)
copied = int(os.read(read, 32))";
    ask(&reader.replace("BEFORE", before), "copied")
        .as_i64()
        .unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_fork_that_only_reads_copies_next_to_nothing() {
    let counted = copied_by_a_reader("gc.freeze()");
    let shared = copied_by_a_reader("share.keep_shared()");
    // Other Pythons count whatever they read, and have the gaps filled only.
    if ask("", "share.has_immortals()") == true {
        assert!(shared * 10 < counted, "{shared} of {counted} KiB");
    } else {
        assert!(shared * 10 < counted * 11, "{shared} of {counted} KiB");
    }
}

#[test]
fn the_free_places_between_objects_are_taken() {
    let holes = "kept = [[str(n)] for n in range(100_000)]; del kept[::2]\n\
                 free = lambda: sum(size * count for size, count in share.gaps())\n\
                 before = free(); filled = share.fill_gaps(); after = free()";
    let seen = ask(holes, "[before, filled, after]");
    let [before, filled, after] = [0, 1, 2].map(|at| seen[at].as_i64().unwrap());
    // 50,000 lists and as many strings were freed.
    assert!(before > 50_000 * 80, "{seen}");
    assert!(filled >= before / 2, "{seen}");
    // Asking makes a few objects, and with them places for as many as lie together.
    assert!(after < before / 4, "{seen}");
}

#[test]
fn what_is_made_later_is_counted_and_freed_as_ever() {
    let made = "import weakref
class Thing: pass
share.keep_shared()
thing = Thing(); seen = weakref.ref(thing)
del thing
ring = Thing(); ring.me = ring; again = weakref.ref(ring)
del ring; gc.collect()";
    let freed = ask(made, "[seen() is None, again() is None]");
    assert_eq!(freed, serde_json::json!([true, true]));
}
