//! The keeper's place in the file system: directories, lock, socket. Whoever holds it is the one.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

use super::job::Owner;
use super::options::KeeperPaths;
use super::process::KeeperError;

/// Lock and socket; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) listener: UnixListener,
    socket: PathBuf,
    _lock: File,
}

impl Place {
    /// Takes the place, or says who has it.
    pub(super) fn take(paths: &KeeperPaths) -> Result<Self, KeeperError> {
        make_private(&paths.data)?;
        let lock = lock(paths)?;
        make_private(&paths.runtime)?;
        check_private(&paths.runtime)?;
        let socket = paths.socket();
        let listener = bind(&socket, paths)?;
        Ok(Self {
            listener,
            socket,
            _lock: lock,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A socket that stays is found dead by the next keeper, and removed.
        drop(std::fs::remove_file(&self.socket));
    }
}

/// A new identity for a keeper of this squad.
pub(super) fn owner(paths: &KeeperPaths) -> Result<Owner, KeeperError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| KeeperError::System {
        action: "draw a random number",
        source: io::Error::other(error),
    })?;
    let data = paths.data.to_str();
    let data = data.ok_or_else(|| KeeperError::NotUnicode {
        path: paths.data.clone(),
    })?;
    Ok(Owner {
        pid: rustix::process::getpid(),
        nonce: format!("{:032x}", u128::from_le_bytes(nonce)),
        data: data.to_owned(),
    })
}

/// The socket that agents talk to for life. Its backlog keeps them while no server is there.
pub(super) fn bind_gateway() -> io::Result<(TcpListener, SocketAddr)> {
    let gateway = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = gateway.local_addr()?;
    Ok((gateway, address))
}

fn at(path: &Path) -> impl Fn(io::Error) -> KeeperError {
    move |source| KeeperError::Path {
        path: path.to_owned(),
        source,
    }
}

fn make_private(directory: &Path) -> Result<(), KeeperError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(at(directory))
}

/// Never changes the mode of a directory that was there before: it may be `/tmp`.
fn check_private(directory: &Path) -> Result<(), KeeperError> {
    let found = std::fs::metadata(directory).map_err(at(directory))?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(KeeperError::OpenDirectory {
            directory: directory.to_owned(),
        });
    }
    Ok(())
}

fn lock(paths: &KeeperPaths) -> Result<File, KeeperError> {
    let path = paths.lock();
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(&path).map_err(at(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(already_running(paths, &mut file)),
        Err(error) => return Err(at(&path)(error.into())),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(at(&path))?;
    Ok(file)
}

fn already_running(paths: &KeeperPaths, lock: &mut File) -> KeeperError {
    let mut pid = String::new();
    let read = lock.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
    KeeperError::AlreadyRunning {
        data: paths.data.clone(),
        pid: read.then(|| pid.trim().to_owned()),
    }
}

fn bind(socket: &Path, paths: &KeeperPaths) -> Result<UnixListener, KeeperError> {
    // The lock is ours, so a living keeper here belongs to another data directory.
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        return Err(KeeperError::AlreadyRunning {
            data: paths.data.clone(),
            pid: None,
        });
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(socket)(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket).map_err(at(socket))?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600)).map_err(at(socket))?;
    Ok(listener)
}
