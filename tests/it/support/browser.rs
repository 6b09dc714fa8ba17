//! A real browser: Debian's chromium, driven through its chromedriver; both are gone with the value.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde_json::Value;
use thirtyfour::{ChromiumLikeCapabilities as _, DesiredCapabilities, WebDriver};

/// How often a page is asked whether it is so far, and how many times; only a bound.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS_MAX: usize = 1200;

/// Without these, chromium looks for hosts of its maker's at every start, and wants more rights than a test has.
const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

/// The driver's process, and with it the browser's.
struct Processes(Child);

/// A browser with one page.
pub struct Browser {
    driver: WebDriver,
    _processes: Processes,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one with an empty profile.
    pub async fn start() -> Browser {
        lamina::registry::tls::install_provider();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut processes = Processes(command.spawn().expect("these tests need Debian's packages chromium and chromium-driver"));
        let mut lines = BufReader::new(processes.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok());
        let port = port.expect("chromedriver says where it listens");
        // Reads on: a full pipe would stop the driver.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let mut capabilities = DesiredCapabilities::chrome();
        for flag in FLAGS {
            capabilities.add_arg(flag).unwrap();
        }
        capabilities.add_arg(&format!("--user-data-dir={}", profile.path().display())).unwrap();
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities).await.unwrap();
        Browser { driver, _processes: processes, _profile: profile }
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.driver.goto(url).await.unwrap();
    }

    /// What an expression of the page's own language gives.
    pub async fn value(&self, expression: &str) -> Value {
        let result = self.driver.execute(format!("return {expression}"), Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{expression}: {error}")).json().clone()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        for _ in 0..LOOKS_MAX {
            if self.value(expression).await == true {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("it never came: {expression}; the page is: {}", self.value("document.body.innerText").await);
    }

    /// Clicks on what a selector finds.
    pub async fn click(&self, selector: &str) {
        self.driver.find(thirtyfour::By::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// Ends it in good order.
    pub async fn quit(self) {
        self.driver.quit().await.unwrap();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // The browser is the driver's child; without the driver nobody would end it.
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten().filter_map(Result::ok);
        let children: String = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect();
        let _ = self.0.kill();
        for child in children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)) {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
