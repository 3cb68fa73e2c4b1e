//! Loading, saving, and changes of hands.

use super::*;
use crate::acme::{memory::OpenOrder, store::Files};
use std::{fs, path::Path};

const WHO: (&str, &str) = ("le", "https://ca/dir");

/// An edge with a storage in `folder`.
async fn edge(folder: &Path) -> Arc<Vault> {
    let store = Files::new(&folder.join("acme.json"));
    let vault = Vault::new(store, Challenges::default(), Arc::default());
    vault.start().await;
    vault
}

async fn put(vault: &Arc<Vault>, chain: &str) -> bool {
    let change = |stored: &mut Stored, memory: &mut Memory| {
        stored.put(&["a.test".to_owned()], chain, "key");
        let order = OpenOrder {
            at: now(),
            ..OpenOrder::default()
        };
        memory.orders.insert("a.test".to_owned(), order);
    };
    vault.change(WHO, change).await
}

fn chains(vault: &Vault) -> Vec<String> {
    let stored = vault.stored("le");
    let pairs = stored.pairs().iter();
    pairs.map(|pair| pair.texts().unwrap().0).collect()
}

fn part(vault: &Vault) -> Part {
    *vault.parts().borrow()
}

#[tokio::test]
async fn what_is_changed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = edge(folder.path()).await;
    assert_eq!(part(&first), Part::Leads(1));
    assert!(put(&first, "one").await);
    drop(first);
    let second = edge(folder.path()).await;
    assert_eq!(part(&second), Part::Leads(2));
    assert_eq!(chains(&second), ["one"]);
    assert_eq!(second.memory(WHO.0, WHO.1).orders.len(), 1);
    // Another authority has another history.
    assert!(second.memory(WHO.0, "https://other/dir").orders.is_empty());
}

#[tokio::test]
async fn one_edge_writes_and_the_others_read() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (edge(folder.path()).await, edge(folder.path()).await);
    let both = [&first, &second];
    assert_eq!(both.map(|one| part(one)), [Part::Leads(1), Part::Follows]);
    assert_eq!(
        both.map(|one| one.may_order()),
        [Some(Duration::ZERO), None]
    );
    let mut parts = second.parts();
    parts.mark_unchanged();
    put(&first, "one").await;
    second.turn_now();
    assert_eq!(chains(&second), ["one"]);
    assert!(parts.has_changed().unwrap());
    parts.mark_unchanged();
    second.turn_now();
    assert!(!parts.has_changed().unwrap());
    // A follower changes nothing.
    assert!(!put(&second, "two").await);
    assert_eq!(chains(&second), ["one"]);
    drop(first);
    second.turn_now();
    assert_eq!(part(&second), Part::Leads(2));
    assert_eq!(second.memory(WHO.0, WHO.1).orders.len(), 1);
}

#[tokio::test]
async fn a_corrupt_file_is_set_aside_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let first = edge(folder.path()).await;
    put(&first, "one").await;
    put(&first, "two").await;
    drop(first);
    fs::write(folder.path().join("acme.json"), "{\"le\": {\"Certif").unwrap();
    let second = edge(folder.path()).await;
    assert_eq!(chains(&second), ["one"]);
    put(&second, "three").await;
    let names = fs::read_dir(folder.path()).unwrap().flatten();
    let aside = names
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("acme.json.corrupt-"));
    assert_eq!(fs::read(aside.unwrap()).unwrap(), b"{\"le\": {\"Certif");
}

#[tokio::test]
async fn a_file_that_a_follower_cannot_read_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (edge(folder.path()).await, edge(folder.path()).await);
    put(&first, "one").await;
    second.turn_now();
    fs::write(folder.path().join("acme.json"), "{").unwrap();
    second.turn_now();
    assert_eq!(chains(&second), ["one"]);
    assert_eq!(fs::read(folder.path().join("acme.json")).unwrap(), b"{");
}

#[tokio::test]
async fn an_empty_file_is_an_empty_storage() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acme.json"), "\n").unwrap();
    let vault = edge(folder.path()).await;
    assert_eq!(part(&vault), Part::Leads(1));
    assert!(chains(&vault).is_empty());
}

#[tokio::test]
async fn what_cannot_be_written_is_kept_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let vault = edge(folder.path()).await;
    let blocker = folder.path().join("acme.json.new");
    fs::create_dir(&blocker).unwrap();
    assert!(!put(&vault, "one").await);
    assert_eq!(chains(&vault), ["one"]);
    assert!(!vault.save().await);
    // The lease goes to another edge and comes back meanwhile.
    vault.assume(Part::Waits);
    vault.turn_now();
    assert_eq!(chains(&vault), ["one"]);
    fs::remove_dir(&blocker).unwrap();
    vault.state().retry = None;
    vault.turn_now();
    drop(vault);
    assert_eq!(chains(&*edge(folder.path()).await), ["one"]);
}

#[tokio::test]
async fn a_storage_that_takes_no_lease_is_used_with_caution() {
    let folder = tempfile::tempdir().unwrap();
    // A folder in the place of the lease.
    let blocker = folder.path().join("acme.json.lease");
    fs::create_dir(&blocker).unwrap();
    let vault = edge(folder.path()).await;
    assert_eq!(part(&vault), Part::Alone);
    assert!(vault.may_order().unwrap() > Duration::from_secs(30));
    put(&vault, "one").await;
    fs::remove_dir(&blocker).unwrap();
    vault.turn_now();
    assert_eq!(
        (part(&vault), chains(&vault)),
        (Part::Leads(1), vec!["one".to_owned()])
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acme.json");
    // Reading a folder fails, whoever reads it.
    fs::create_dir(&path).unwrap();
    let vault = edge(folder.path()).await;
    assert_eq!((part(&vault), vault.may_order()), (Part::Waits, None));
    fs::remove_dir(&path).unwrap();
    vault.turn_now();
    assert_eq!(part(&vault), Part::Leads(1));
}
