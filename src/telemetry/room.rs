//! How much GPU memory an endpoint's models may take: as configured, or as the driver tells.
//!
//! An endpoint on this machine is taken to use all its GPUs. What is configured wins, because the
//! endpoint may be the near end of a tunnel.

use std::collections::BTreeMap;

use super::gpu::{Gpu, Gpus};
use crate::core::endpoint::EndpointName;
use crate::core::settings::{EndpointSettings, Settings};
use crate::core::vram::Room;

/// The room of one endpoint, whose models take `resident` bytes now; none where it is unknown.
pub fn room(
    endpoint: &EndpointSettings,
    gpus: &[Gpu],
    resident: u64,
    reserve: u64,
) -> Option<Room> {
    if let Some(total) = endpoint.vram {
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        return Some(Room::configured(total, reserve));
    }
    if !endpoint.is_on_this_machine() || gpus.is_empty() {
        return None;
    }
    let total = gpus
        .iter()
        .map(|gpu| gpu.memory_total)
        .sum::<Option<u64>>()?;
    let used = gpus
        .iter()
        .map(|gpu| gpu.memory_used)
        .sum::<Option<u64>>()?;
    Some(Room::driver((total, used), resident, reserve))
}

/// The room of every configured endpoint whose room is known. `resident` tells the bytes that an
/// endpoint's models take now.
///
/// Opens the driver's library where an endpoint needs it: slow, and not for a hot path.
pub fn rooms(
    settings: &Settings,
    resident: impl Fn(&EndpointName) -> u64,
) -> BTreeMap<EndpointName, Room> {
    let gpus = open(settings).map(|gpus| gpus.read()).unwrap_or_default();
    let reserve = reserve(settings);
    let of = |endpoint: &EndpointSettings| {
        let name = EndpointName(endpoint.name.clone());
        let room = room(endpoint, &gpus, resident(&name), reserve)?;
        Some((name, room))
    };
    settings.endpoints.iter().filter_map(of).collect()
}

/// The GPUs of this machine, where an endpoint's room is to be read from them and they answer.
pub fn open(settings: &Settings) -> Option<Gpus> {
    let asks = |it: &EndpointSettings| it.vram.is_none() && it.is_on_this_machine();
    settings.endpoints.iter().any(asks).then(Gpus::open)?.ok()
}

/// Bytes that are kept free for others.
pub fn reserve(settings: &Settings) -> u64 {
    u64::try_from(settings.vram.reserve).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn gpu(total: Option<u64>, used: u64) -> Gpu {
        Gpu {
            index: 0,
            name: "GPU".into(),
            memory_total: total,
            memory_used: Some(used),
            busy: None,
            temperature: None,
            power: None,
            processes: Vec::new(),
        }
    }

    fn endpoint(url: &str, vram: Option<usize>) -> EndpointSettings {
        EndpointSettings {
            url: url.into(),
            vram,
            ..EndpointSettings::default()
        }
    }

    #[test]
    fn the_gpus_of_this_machine_are_added_up_for_an_endpoint_on_it() {
        let gpus = [gpu(Some(24 * GIB), 10 * GIB), gpu(Some(24 * GIB), 10 * GIB)];
        let here = endpoint("http://127.0.0.1:11434", None);
        let room = room(&here, &gpus, 18 * GIB, GIB).unwrap();
        assert_eq!((room.size, room.total), (45 * GIB, 48 * GIB));
    }

    #[test]
    fn a_room_that_nobody_tells_is_unknown() {
        let here = endpoint("http://localhost:1", None);
        let there = endpoint("http://gpu-2:11434", None);
        assert_eq!(room(&here, &[], 0, 0), None);
        assert_eq!(room(&here, &[gpu(None, 0)], 0, 0), None);
        assert_eq!(room(&there, &[gpu(Some(GIB), 0)], 0, 0), None);
        let configured = endpoint("http://gpu-2:11434", Some(8 << 30));
        assert_eq!(room(&configured, &[], 0, GIB).unwrap().size, 7 * GIB);
    }
}
