//! `kill -9`, of our process and of the registry, at random moments of a push, round after round: the image that is there in the end is the one that was never interrupted, and what
//! went over the wire is bounded.
//!
//! A round is one kill. A push that was killed is run again by the same command; a registry that was killed is started again under a push that goes on. When a push has ended, the image is
//! read back and compared, and the registry begins empty for the next push. The moments come from a seed, which is printed. The bound of each push is what was missing, and for
//! each kill one chunk (our registry keeps what came) or one blob (docker-registry does not) for every upload that was under way.
//!
//! ```text
//! LAMINA_KILL_ROUNDS=200 LAMINA_KILL_MIB=1024 LAMINA_KILL_SEED=1 cargo nextest run --release slow_kill --no-capture
//! ```

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use lamina::oci::digest::Digest;
use lamina::oci::manifest::Pulled;

use crate::support::client::{noise, repository};
use crate::support::docker_registry::DockerRegistry;
use crate::support::hs::{Home, Serve, free_address};
use crate::support::models;
use crate::support::wire_tap::WireTap;

const MIB: u64 = 1 << 20;
/// The client's own (`RegistrySettings::chunk_bytes`).
const CHUNK_BYTES: u64 = 64 * MIB;
/// As many uploads are under way at once (`registry/copy.rs`).
const UPLOADS_AT_ONCE: u64 = 4;
/// The small layers, the config and the manifest, which may be sent again.
const SMALL_BYTES: u64 = MIB;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // splitmix64 (Vigna): any seed will do, 0 too.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A registry that can be killed, and starts again over what it kept.
enum Server {
    Ours { home: Home, service: Serve },
    Docker(DockerRegistry),
}

impl Server {
    fn ours(folder: &Path) -> Server {
        let home = Home::new();
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(home.data().parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(data, home.data()).unwrap();
        let service = Serve::start_at(&home, free_address(), &[]);
        Server::Ours { home, service }
    }

    fn address(&self) -> String {
        match self {
            Server::Ours { service, .. } => service.address.to_string(),
            Server::Docker(registry) => registry.address().to_owned(),
        }
    }

    fn kill_and_start(&mut self) {
        match self {
            Server::Ours { home, service } => {
                service.kill();
                *service = Serve::start_at(home, service.address, &[]);
            }
            Server::Docker(registry) => registry.start_again(),
        }
    }

    /// Begins with nothing.
    fn forget_everything(&mut self) {
        match self {
            Server::Ours { home, service } => {
                service.kill();
                let data = fs::canonicalize(home.data()).unwrap();
                fs::remove_dir_all(&data).unwrap();
                fs::create_dir(&data).unwrap();
                *service = Serve::start_at(home, service.address, &[]);
            }
            Server::Docker(registry) => registry.forget_everything(),
        }
    }

    /// Sessions that hold more than a small blob, which has no page in the journal: that of a small one stays until it expires. Those of docker-registry whose line
    /// broke cannot be removed by anybody.
    fn uploads_left(&self) -> usize {
        let Server::Ours { home, .. } = self else { return 0 };
        let sessions = fs::read_dir(home.data().join("uploads")).unwrap().map(Result::unwrap);
        sessions.filter(|session| session.metadata().is_ok_and(|metadata| metadata.len() > SMALL_BYTES)).count()
    }
}

/// What is pushed, and where to.
struct Bench {
    home: Home,
    server: Server,
    tap: WireTap,
    random: Random,
    digest: Digest,
    image_bytes: u64,
    /// What one kill may cost.
    kill_bytes: u64,
}

/// What the rounds came to.
#[derive(Default, Debug)]
struct Tally {
    kills_of_the_client: u64,
    kills_of_the_registry: u64,
    pushes: u64,
    sent_bytes: u64,
    bound_bytes: u64,
}

impl Bench {
    async fn new(mut server: Server, folder: &Path, files: u64, mib: u64, kill_bytes: u64, seed: u64) -> Bench {
        server.forget_everything();
        let home = Home::new();
        let model = folder.join("model");
        write_model(&model, files, mib);
        models::settle(&model);
        let layout = folder.join("layout");
        let tap = WireTap::before(&server.address()).await;
        let mut bench = Bench { home, server, tap, random: Random(seed), digest: Digest::of(b""), image_bytes: 0, kill_bytes };
        let built = bench.home.json(words(&model, &format!("oci:{}:1", layout.display())));
        bench.digest = built["digest"].as_str().unwrap().parse().unwrap();
        bench.image_bytes = folder_bytes(&layout);
        fs::remove_dir_all(&layout).unwrap();
        bench
    }

    fn spawn(&self, folder: &Path) -> Child {
        let to = format!("{}/team/model:1", self.tap.address());
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = self.home.command();
        command.args(words(&folder.join("model"), &to)).stdout(Stdio::null()).stderr(log);
        command.spawn().unwrap()
    }

    /// Waits for a moment of a push: a number of bytes, or a time for what lies between the bytes. Whether the push still runs then.
    async fn until_a_moment(&mut self, child: &mut Child) -> bool {
        let by_time = self.random.below(4) == 0;
        let pause = Duration::from_millis(self.random.below(400));
        let bytes = self.tap.body_bytes() + self.random.below(self.image_bytes);
        if by_time {
            tokio::time::sleep(pause).await;
            return child.try_wait().unwrap().is_none();
        }
        while child.try_wait().unwrap().is_none() {
            if self.tap.body_bytes() >= bytes {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    }

    fn restart_registry(&mut self) {
        tokio::task::block_in_place(|| self.server.kill_and_start());
        self.tap.point_to(&self.server.address());
    }

    /// One push, killed up to `rounds` times, to its end.
    async fn push(&mut self, folder: &Path, rounds: u64, tally: &mut Tally) {
        self.tap.forget();
        let mut kills = 0;
        let mut child = self.spawn(folder);
        while kills < rounds && self.until_a_moment(&mut child).await {
            kills += 1;
            if self.random.below(2) == 0 {
                tally.kills_of_the_client += 1;
                child.kill().unwrap();
                child.wait().unwrap();
                self.check_half().await;
                child = self.spawn(folder);
            } else {
                tally.kills_of_the_registry += 1;
                self.restart_registry();
            }
        }
        let status = tokio::task::block_in_place(|| child.wait()).unwrap();
        let log = folder.join("log");
        assert!(status.success(), "{status}: {}", fs::read_to_string(&log).unwrap());
        fs::remove_file(&log).unwrap();
        let (sent_bytes, bound_bytes) = (self.tap.body_bytes(), self.image_bytes + SMALL_BYTES * (kills + 1) + kills * self.kill_bytes);
        assert!(sent_bytes <= bound_bytes, "{kills} kills, {sent_bytes} bytes sent, at most {bound_bytes}");
        self.check_whole().await;
        tally.pushes += 1;
        tally.sent_bytes += sent_bytes;
        tally.bound_bytes += bound_bytes;
    }

    /// Whatever was killed, the tag leads to nothing or to the whole image.
    async fn check_half(&self) {
        let named = repository(&format!("{}/team/model", self.server.address())).manifest_digest("1").await.unwrap();
        if let Some(named) = named {
            assert_eq!(named, self.digest);
            self.check_whole().await;
        }
    }

    /// The image is there, byte for byte, and nothing beside it.
    async fn check_whole(&self) {
        let repository = repository(&format!("{}/team/model", self.server.address()));
        let Pulled::Manifest(manifest) = repository.manifest("1").await.unwrap() else { panic!("an index") };
        assert_eq!(manifest.document.digest, self.digest);
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            // Read to its end a stream has been compared with the digest.
            let size_bytes =
                repository.blob(blob).await.unwrap().try_fold(0, async |size, piece| Ok(size + piece.len() as u64)).await.unwrap();
            assert_eq!(size_bytes, blob.size_bytes);
        }
    }
}

fn words(model: &Path, to: &str) -> Vec<String> {
    ["build", &model.display().to_string(), "--runtime", "scratch", "--to", to].map(str::to_owned).to_vec()
}

/// Files of `mib` MiB in all, no two MiB alike.
fn write_model(model: &Path, files: u64, mib: u64) {
    models::small(model);
    let mut piece = noise(1 << 20);
    for number in 0..files {
        let mut file = File::create(model.join(format!("weights-{number:02}.bin"))).unwrap();
        for at in 0..mib / files {
            piece[..8].copy_from_slice(&(number << 32 | at).to_le_bytes());
            file.write_all(&piece).unwrap();
        }
    }
}

fn folder_bytes(folder: &Path) -> u64 {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    let mut size_bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { folders.push(entry.path()) } else { size_bytes += metadata.len() }
        }
    }
    size_bytes
}

/// Pushes until so many rounds are over, in half the rounds that are asked for: there are two registries.
async fn rounds(name: &str, server: impl FnOnce(&Path) -> Server, files: u64, kill_bytes: impl FnOnce(u64) -> u64) {
    let (rounds, mib, seed) =
        (setting("LAMINA_KILL_ROUNDS", 20).div_ceil(2), setting("LAMINA_KILL_MIB", 128), setting("LAMINA_KILL_SEED", 20_261_125));
    eprintln!("{name}: {rounds} rounds, {mib} MiB, LAMINA_KILL_SEED={seed}");
    let folder = tempfile::Builder::new().prefix("kills-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut bench = Bench::new(server(folder.path()), folder.path(), files, mib, kill_bytes(mib * MIB), seed).await;
    let mut tally = Tally::default();
    while tally.kills_of_the_client + tally.kills_of_the_registry < rounds {
        let left = rounds - tally.kills_of_the_client - tally.kills_of_the_registry;
        bench.push(folder.path(), left, &mut tally).await;
        let pages = bench.home.path().join(".cache/lamina/registries/uploads");
        let left = fs::read_dir(&pages).map_or(0, Iterator::count);
        assert_eq!((left, bench.server.uploads_left()), (0, 0), "a page of the journal, or an upload, is left");
        tokio::task::block_in_place(|| bench.server.forget_everything());
        bench.tap.point_to(&bench.server.address());
    }
    eprintln!("{name}: {tally:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_kill_rounds_of_our_registry_end_in_the_same_image() {
    // One large layer: what was acknowledged counts, and nothing else is under way.
    rounds("our registry", Server::ours, 1, |_| CHUNK_BYTES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_kill_rounds_of_docker_registry_end_in_the_same_image() {
    // Sixteen layers: a kill costs those that were under way.
    let server = |folder: &Path| Server::Docker(DockerRegistry::start_in(folder));
    rounds("docker-registry", server, 16, |image_bytes| UPLOADS_AT_ONCE * image_bytes / 16).await;
}
