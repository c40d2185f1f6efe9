//! What the programs cost: test runs of the kernel on frames, and what it counts for each program.
//! Decides nothing, and nothing that runs for a session asks it.

use std::os::fd::AsFd;

use super::{Kernel, error::Error};
use crate::sys::bpf;

impl Kernel {
    /// Runs the egress program on a frame (with Ethernet header) as if it left by a device. The
    /// socket of a test run is in the root cgroup.
    pub fn test_egress(
        &self,
        frame: &[u8],
        ifindex: u32,
        repeat: u32,
    ) -> Result<bpf::TestRunResult, Error> {
        let hook = "egress";
        let program = self.inner.programs.iter().find(|p| p.hook.name == hook);
        let program = program.ok_or(Error::Missing { name: hook })?;
        bpf::test_run(program.fd.as_fd(), frame, ifindex, repeat).map_err(|source| Error::Attach {
            hook,
            action: "a test run",
            source,
        })
    }

    /// Runs a program that decides nothing on a frame, as [`Kernel::test_egress`] runs ours: the part
    /// of its time that is the test run's own.
    pub fn test_nothing(
        frame: &[u8],
        ifindex: u32,
        repeat: u32,
    ) -> Result<bpf::TestRunResult, Error> {
        let failed = |action| {
            move |source| Error::Attach {
                hook: "nothing",
                action,
                source,
            }
        };
        let program = bpf::load_passing().map_err(|refused| failed("loading")(refused.into()))?;
        bpf::test_run(program.as_fd(), frame, ifindex, repeat).map_err(failed("a test run"))
    }

    /// What the kernel counts for each program, by its hook.
    pub fn programs(&self) -> Result<Vec<(&'static str, bpf::ProgramInfo)>, Error> {
        let programs = self.inner.programs.iter();
        programs
            .map(|program| {
                let hook = program.hook.name;
                let info = bpf::program_info(program.fd.as_fd());
                let info = info.map_err(|source| Error::Attach {
                    hook,
                    action: "asking for the program",
                    source,
                })?;
                Ok((hook, info))
            })
            .collect()
    }
}
