//! One machine, from power-on to power-off. Knows qemu and the marks of the guest's script.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{Kernel, image::Image};
use crate::process::{self, Ended};

/// Starts what the guest's script says of itself.
const MARK: &str = "stockade-vm: ";

/// Lines of the console that are shown when a machine does not end well.
const CONSOLE_LINES: usize = 30;

/// A machine that is switched off.
pub(crate) struct Machine<'a> {
    pub(crate) image: &'a Image,
    pub(crate) kernel: Kernel,
    /// The second disk.
    pub(crate) payload: &'a Path,
    /// It is killed after this.
    pub(crate) limit: Duration,
}

impl Machine<'_> {
    /// Boots, shows each line of the script's output to `line`, and gives the script's exit code.
    pub(crate) fn run(&self, mut line: impl FnMut(&str)) -> anyhow::Result<u8> {
        let console = super::folder()?.join(format!("console-{}.log", self.kernel.name()));
        let mut begun = false;
        let mut code = None;
        let ended = process::watch(&mut self.qemu(&console), self.limit, |text| {
            if let Some(mark) = text.strip_prefix(MARK) {
                begun |= mark.starts_with("begin ");
                let end = mark.strip_prefix("end ");
                // A sign of life may come after it.
                code = end.and_then(|code| code.parse().ok()).or(code);
            }
            line(text);
        })?;
        let fault = match (ended, code) {
            (Ended::Status(_), Some(code)) if begun => return Ok(code),
            (Ended::TooLong(limit), _) => format!("was ended after {} s", limit.as_secs()),
            (Ended::Status(status), _) if begun => format!("broke off in the middle ({status})"),
            (Ended::Status(status), _) => format!("did not come to the command ({status})"),
        };
        bail!(
            "the machine with kernel {} {fault}\n{}\nhint: all of its console: {}",
            self.kernel.name(),
            last_lines(&console),
            console.display()
        );
    }

    /// It ends with the thread that has started it, however that one ends.
    ///
    /// Emulated, even where there is `/dev/kvm`: a host that is a guest itself may offer one on
    /// which no machine ever comes up. No network; both disks forget what is written.
    fn qemu(&self, console: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            // Without `cmpxchg16b`: after one, in the kernel's allocator, Linux 6.12 was seen to end in a
            // double fault, with half of an address in the flags.
            .args(["-machine", "q35,accel=tcg", "-cpu", "max,-cx16", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-nic", "none", "-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"])
            .arg("-kernel")
            .arg(self.image.kernel(self.kernel))
            .arg("-initrd")
            .arg(self.image.initrd(self.kernel))
            // A panic ends the machine.
            .args(["-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1"])
            .args(drive("root", &self.image.root()))
            .args(drive("payload", self.payload))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            // The script's output has a port of its own, so that the console can not mix in. A file,
            // not `stdio`: without an input to read, that one tells the guest that nobody listens.
            .args(["-device", "virtio-serial-pci", "-chardev", "file,id=script,path=/dev/stdout"])
            .args(["-device", "virtserialport,chardev=script,name=stockade"])
            .stdin(Stdio::null());
        command
    }
}

/// The options of a disk. The guest finds it by its serial number.
fn drive(name: &str, file: &Path) -> [String; 4] {
    // qemu splits options at commas, and reads two as one.
    let file = file.display().to_string().replace(',', ",,");
    [
        "-drive".to_owned(),
        format!("id={name},if=none,format=raw,snapshot=on,file={file}"),
        "-device".to_owned(),
        format!("virtio-blk-pci,drive={name},serial={name}"),
    ]
}

fn last_lines(console: &PathBuf) -> String {
    let Ok(bytes) = fs::read(console).context("no console") else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let start = lines.len().saturating_sub(CONSOLE_LINES);
    lines.get(start..).unwrap_or_default().join("\n")
}
