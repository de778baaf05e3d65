//! What survives the process: bodies, and the purges that say which of them may not be used. Dropping a Weir kills it, as `kill -9` does.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Origin, Reply, Weir, eventually};

fn counting() -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let size = request.target.split("size=").nth(1).and_then(|size| size.parse().ok()).unwrap_or(0);
        Reply::ok(format!("{number:06}{}", "x".repeat(size)))
            .header("Cache-Control", "max-age=600")
            .header("Surrogate-Key", "page")
    })
}

fn with_data(folder: &Path, origin: &Origin) -> Weir {
    Weir::with(&format!(
        "[data]\npath = \"{}\"\ncache_size = \"64MiB\"\n[[route]]\norigin = \"{}\"\n",
        folder.display(),
        origin.url()
    ))
}

fn bytes_on_disk(weir: &Weir) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
    status["data"]["bytes"].as_u64().unwrap_or_default()
}

#[test]
fn what_is_stored_is_there_after_a_kill() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), counting());
    let bodies: Vec<String> = {
        let weir = with_data(folder.path(), &origin);
        let bodies = ["/small", "/large?size=500000"].map(|path| weir.get(path).text()).to_vec();
        eventually("both to be on disk", || bytes_on_disk(&weir) > 0 && status_written(&weir) >= 2);
        bodies
    };
    let weir = with_data(folder.path(), &origin);
    let again = ["/small", "/large?size=500000"].map(|path| weir.get(path).text()).to_vec();
    assert!(again == bodies, "the same bytes");
    assert_eq!(origin.count(), 2, "nobody asked the origin again");
    assert!(weir.get("/small").is_hit(), "and it is in memory now");
}

fn status_written(weir: &Weir) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&weir.admin("GET", "/status").text()).unwrap();
    status["data"]["written"].as_u64().unwrap_or_default()
}

#[test]
fn what_was_purged_before_a_kill_is_not_served_after_it() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), counting());
    let mut weir = with_data(folder.path(), &origin);
    let mut last: u64 = 0;
    for round in 0..8 {
        let stored: u64 = weir.get("/page").text().parse().unwrap();
        assert!(stored > last, "round {round}: {stored} was purged in an earlier life");
        eventually("it to be on disk", || status_written(&weir) > 0);
        let purge = ["tag=page", "glob=p*", "everything=true", "prefix=/"][round % 4];
        let receipt = weir.admin("POST", &format!("/purge?{purge}"));
        assert!(receipt.text().contains("\"journaled\":true"), "{}", receipt.text());
        last = stored;
        drop(weir);
        weir = with_data(folder.path(), &origin);
    }
    assert_eq!(
        harness::weir::run(&["store", "check", "--data", &folder.path().display().to_string()]).status.code(),
        Some(0)
    );
}

#[test]
fn a_damaged_store_is_moved_aside_and_the_proxy_starts() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), counting());
    drop(with_data(folder.path(), &origin));
    for name in ["state.db", "cache.db"] {
        for beside in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(folder.path().join(format!("{name}{beside}")));
        }
        std::fs::write(
            folder.path().join(name),
            b"no database at all, and much longer than a header".repeat(50),
        )
        .unwrap();
    }
    let weir = with_data(folder.path(), &origin);
    assert_eq!(weir.get("/page").status, 200);
    assert!(
        folder.path().join("state.db.damaged-0").exists()
            && folder.path().join("cache.db.damaged-0").exists()
    );
    assert!(weir.admin("POST", "/purge?everything=true").text().contains("\"journaled\":true"));
}

#[test]
fn a_folder_that_another_proxy_uses_is_left_alone() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), counting());
    let first = with_data(folder.path(), &origin);
    let second = with_data(folder.path(), &origin);
    second.wait_for_line("another proxy uses the folder");
    assert!(second.admin("POST", "/purge?everything=true").text().contains("\"journaled\":false"));
    assert!(first.admin("POST", "/purge?everything=true").text().contains("\"journaled\":true"));
    drop(first);
    drop(second);
    let third = with_data(folder.path(), &origin);
    assert!(third.admin("POST", "/purge?everything=true").text().contains("\"journaled\":true"));
}
