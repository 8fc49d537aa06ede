//! Chromium without a screen, driven over its pipe (<https://chromedevtools.github.io/devtools-protocol/>).

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
pub use testbed::wait::PATIENCE;

/// One browser with one page; both end with this.
pub struct Browser {
    process: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    session: Option<String>,
    count: u64,
    /// Errors of the page, such as what its policy forbids.
    pub errors: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A window of this size, in which a URL is opened.
    pub fn open(url: &str, (width, height): (u32, u32)) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // It reads orders from descriptor 3 and answers on 4.
        let script = format!(
            "exec chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
             --user-data-dir={0} --window-size={width},{height} --remote-debugging-pipe about:blank \
             3<&0 4>&1 </dev/null >{0}/log 2>&1",
            profile.path().display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.env("HOME", profile.path()).env("TMPDIR", profile.path());
        let mut process = command.spawn().unwrap();
        let (orders, said) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let (send, answers) = channel();
        std::thread::spawn(move || {
            let mut said = BufReader::new(said);
            let mut message = Vec::new();
            while said.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                if send.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let (session, errors) = (None, Vec::new());
        let mut browser = Self { process, orders, answers, session, count: 0, errors, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", size);
        browser.go(url);
        browser
    }

    /// Opens another URL.
    pub fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// Sends an order and waits for its answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.count += 1;
        let mut order = json!({ "id": self.count, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        let sent = self.orders.write_all(format!("{order}\0").as_bytes());
        if sent.is_err() {
            panic!("chromium does not run; install it with tests/setup.sh chromium: {}", self.log());
        }
        loop {
            let answer = self.answers.recv_timeout(PATIENCE);
            let answer = answer.unwrap_or_else(|_| {
                panic!("chromium does not answer {method} (tests/setup.sh chromium): {}", self.log())
            });
            if answer["id"] == self.count {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self._profile.path().join("log")).unwrap_or_default()
    }

    fn note(&mut self, event: &Value) {
        let is_error = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        if is_error {
            self.errors.push(event["params"].to_string());
        }
    }

    /// The value of an expression in the page, a promise's too.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The text that an expression is.
    pub fn text(&mut self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let waited = testbed::wait::retry(PATIENCE, || {
            anyhow::ensure!(self.value(expression) == true, "never true: {expression}");
            Ok(())
        });
        waited.unwrap_or_else(|error| panic!("{error:#}; the page is: {}", self.text("document.body?.innerText")));
    }

    /// Presses a key, as a keyboard does.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            other => panic!("no code of {other} is known here"),
        };
        let mut event = json!({ "type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code });
        if key == "Enter" {
            event["text"] = "\r".into();
        }
        self.call("Input.dispatchKeyEvent", event.clone());
        event["type"] = "keyUp".into();
        self.call("Input.dispatchKeyEvent", event);
    }

    /// Clicks into the middle of what a selector finds.
    pub fn click(&mut self, selector: &str) {
        let middle = format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let middle = self.value(&middle);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": middle[0], "y": middle[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Takes a picture of the window into a file, and tells how many colours are in it.
    pub fn picture(&mut self, file: &Path) -> u64 {
        let data = self.call("Page.captureScreenshot", json!({ "format": "png" }))["data"].clone();
        let data = data.as_str().unwrap();
        std::fs::write(file, base64::prelude::BASE64_STANDARD.decode(data).unwrap()).unwrap();
        let colours = self.value(&format!(
            "(async () => {{ const image = new Image(); image.src = 'data:image/png;base64,{data}'; await image.decode(); \
             const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext('2d'); \
             context.drawImage(image, 0, 0); \
             return new Set(new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer)).size; }})()"
        ));
        colours.as_u64().unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its children would go on to write into the folder that is removed.
        let group = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.process.wait();
    }
}
