//! Installers of one directory: what is left alone, cleared away, waited for and replaced.

use super::*;

fn quiet(_: &str) {}

#[tokio::test]
async fn a_pack_of_the_same_recipe_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = recipe::find("provided.al2").unwrap().manifest();
    let path = dir.path().join("provided.al2").join(MANIFEST);
    write(&path, toml::to_string(&manifest).unwrap().as_bytes()).unwrap();
    let installer = Installer::open(dir.path(), quiet).await.unwrap();
    let lines = std::sync::Mutex::new(Vec::new());
    let told = |line: &str| lines.lock().unwrap().push(line.to_owned());
    assert_eq!(
        installer.install("provided.al2", told).await.unwrap(),
        Installed::Present
    );
    assert_eq!(
        *lines.lock().unwrap(),
        ["provided.al2 is installed already"]
    );
    assert!(installer.install("none", quiet).await.is_err());
}

#[tokio::test]
async fn what_an_interrupted_installer_left_is_cleared_and_its_downloads_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let left = Workshop::open(dir.path(), "x").unwrap();
    write(&left.root().join("half"), b"").unwrap();
    let left_dir = left.dir.clone();
    std::mem::forget(left);
    write(
        &dir.path().join(".cache/debian-bookworm/archives/a.deb"),
        b"",
    )
    .unwrap();
    write(&dir.path().join(".cache/kept/1/addon"), b"").unwrap();
    let installer = Installer::open(dir.path(), quiet).await.unwrap();
    assert!(!left_dir.exists());
    assert!(
        dir.path()
            .join(".cache/debian-bookworm/archives/a.deb")
            .exists()
    );
    installer.forget_downloads().unwrap();
    assert!(!dir.path().join(".cache/debian-bookworm").exists());
    assert!(dir.path().join(".cache/kept/1/addon").exists());
}

#[tokio::test]
async fn one_installer_works_in_a_directory_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = Installer::open(dir.path(), quiet).await.unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    let path = dir.path().to_owned();
    let second = tokio::spawn(async move {
        let progress = |line: &str| {
            if let Some(tell) = tell.lock().unwrap().take() {
                let _ = tell.send(line.to_owned());
            }
        };
        Installer::open(&path, progress).await.map(drop)
    });
    assert!(
        told.await
            .unwrap()
            .starts_with("waiting for another installation")
    );
    drop(first);
    second.await.unwrap().unwrap();
}

#[test]
fn a_pack_takes_the_place_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("r");
    write(&target.join("old"), b"").unwrap();
    let work = Workshop::open(dir.path(), "r").unwrap();
    write(&work.pack().join("new"), b"").unwrap();
    work.finish(&target).unwrap();
    assert!(target.join("new").exists() && !target.join("old").exists());
    drop(work);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
