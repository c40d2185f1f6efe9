//! What a packet of a verified flow costs: the egress program beside a program that decides nothing,
//! by turns, in test runs of the kernel.

use std::{fs, os::unix::fs::MetadataExt as _, sync::Arc};

use agent::{
    config::Instance,
    kernel::{Kernel, PolicyInForce, cgroup, remove_pins},
};
use anyhow::{Context as _, Result, ensure};
use common::id::{CgroupId, PolicyId, SessionId};
use lab::{Lab, binary::Scratch, net::HOST_DEVICE_INDEX};

use crate::{
    handshakes,
    network::{RULES, policy},
    row::Row,
};

const ROUNDS: usize = 31;
/// Packets of a round.
const REPEAT: u32 = 200_000;
const POLICY: PolicyId = PolicyId(1);
const PASS: u32 = 1;

/// The rows of this bench.
pub(crate) fn run() -> Result<Vec<Row>> {
    let lab = Lab::unrecorded(&[])?;
    let instance = Instance::new(&lab::agent::instance_name()).context("a name")?;
    let parent = cgroup::Parent::create(&instance)?;
    let measured = lab.host().enter(|| measure(&instance, &parent));
    remove_pins(&instance)?;
    parent.remove()?;
    let mut rows = measured??;
    rows.extend(handshakes::run()?);
    Ok(rows)
}

fn measure(instance: &Instance, parent: &cgroup::Parent) -> Result<Vec<Row>> {
    let kernel = Kernel::open(instance, parent)?;
    let scratch = Scratch::new()?;
    let mut rows = Vec::new();
    for rules in RULES {
        eprintln!("bench: packet, {rules} rules …");
        let policy = agent::policy::compile("bench.toml", &policy(&scratch, rules));
        let policy = policy.map_err(|error| anyhow::anyhow!("{error}"))?;
        let synced = kernel.sync(&[PolicyInForce {
            id: POLICY,
            policy: Arc::new(policy),
        }])?;
        if rows.is_empty() {
            // The socket of a test run is in the root cgroup.
            let root = fs::metadata(lab::cgroup::mount()?)?.ino();
            let attached = kernel.attach(parent, &synced)?;
            let _admitted = attached.admit(SessionId(1), CgroupId(root), POLICY)?;
        }
        rows.extend(verified_flow(&kernel, rules)?);
    }
    Ok(rows)
}

/// The first packet of a round makes the socket's state, all others find it.
fn verified_flow(kernel: &Kernel, rules: usize) -> Result<Vec<Row>> {
    let frame = frame();
    let (mut nothing, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let empty = Kernel::test_nothing(&frame, HOST_DEVICE_INDEX, REPEAT)?;
        let egress = kernel.test_egress(&frame, HOST_DEVICE_INDEX, REPEAT)?;
        ensure!(egress.retval == PASS && empty.retval == PASS, "refused");
        nothing.push(f64::from(empty.duration_ns));
        ours.push(f64::from(egress.duration_ns));
    }
    let metric = format!("packet_path_{rules}_rules");
    Ok(vec![
        Row::new("packet", "empty", metric.clone(), "ns", &mut nothing),
        Row::new("packet", "stockade", metric, "ns", &mut ours),
    ])
}

/// TCP to the policy's first rule: Ethernet, IPv4 (RFC 791), TCP (RFC 9293).
fn frame() -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&[0x08, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&[192, 168, 77, 1, 93, 184, 216, 34]);
    frame.extend_from_slice(&[0x9c, 0x40, 0x01, 0xbb]);
    frame.resize(frame.len() + 8, 0);
    frame.extend_from_slice(&[0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}
