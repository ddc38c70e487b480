//! The same rules as the `seccomp` object of an OCI runtime's configuration, for sandboxes that another program makes.
//!
//! Two things cannot be said there: a refused namespace is `ENOSYS`, not `EPERM` (one call has one refusal), and of the
//! terminal requests only `TIOCSTI` is refused (conditions on one argument are alternatives).

use serde_json::{Value, json};
use syscalls::Sysno;

use super::{FAMILIES, NAMESPACE_FLAGS, Verdict, verdict_of_each_listed_call};

const TIOCSTI: u32 = 0x5412;

/// The rules by names, as libseccomp knows them; a name it does not know is one it cannot allow.
pub(crate) fn oci_profile() -> Value {
    let mut rules = Vec::new();
    let (mut allowed, mut pretended) = (Vec::new(), Vec::new());
    let mut refused: std::collections::BTreeMap<i32, Vec<&str>> = std::collections::BTreeMap::new();
    for (number, verdict) in verdict_of_each_listed_call() {
        let Some(name) = Sysno::new(number as usize).map(|call| call.name()) else {
            continue;
        };
        match verdict {
            Verdict::Allow => allowed.push(name),
            Verdict::Pretend => pretended.push(name),
            Verdict::Refuse(errno) => refused.entry(errno).or_default().push(name),
            Verdict::Clone => rules.push(when(
                name,
                &[json!({"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": NAMESPACE_FLAGS, "valueTwo": 0})],
            )),
            Verdict::Socket => {
                rules.extend(FAMILIES.map(|family| when(name, &[equal(0, family)])));
                let route = [equal(0, libc::AF_NETLINK), equal(2, libc::NETLINK_ROUTE)];
                rules.push(when(name, &route));
            }
            Verdict::Ioctl => rules.push(when(
                name,
                &[json!({"index": 1, "op": "SCMP_CMP_NE", "value": TIOCSTI})],
            )),
        }
    }
    rules.push(json!({"names": allowed, "action": "SCMP_ACT_ALLOW"}));
    rules.push(json!({"names": pretended, "action": "SCMP_ACT_ERRNO", "errnoRet": 0}));
    rules.extend(refused.into_iter().filter(|(errno, _)| *errno != libc::ENOSYS).map(
        |(errno, names)| json!({"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}),
    ));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        "architectures": [architecture()],
        "syscalls": rules,
    })
}

const fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "SCMP_ARCH_AARCH64"
    } else {
        "SCMP_ARCH_X86_64"
    }
}

fn equal(index: u32, value: libc::c_int) -> Value {
    json!({"index": index, "op": "SCMP_CMP_EQ", "value": value})
}

fn when(name: &str, arguments: &[Value]) -> Value {
    json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": arguments})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_call_has_a_name_and_only_the_allowed_ones_are_allowed() {
        let profile = oci_profile();
        assert_eq!(profile["defaultErrnoRet"], libc::ENOSYS);
        let names = |action: &str, argued: bool| -> Vec<String> {
            let rules = profile["syscalls"].as_array().unwrap().iter();
            rules
                .filter(|rule| rule["action"] == action && rule.get("args").is_some() == argued)
                .flat_map(|rule| rule["names"].as_array().unwrap())
                .map(|name| name.as_str().unwrap().to_owned())
                .collect()
        };
        let allowed = names("SCMP_ACT_ALLOW", false);
        assert!(allowed.contains(&"read".to_owned()));
        for never in [
            "mount",
            "ptrace",
            "bpf",
            "io_uring_setup",
            "unshare",
            "clone3",
            "clone",
            "socket",
        ] {
            assert!(!allowed.contains(&never.to_owned()), "{never}");
        }
        assert_eq!(
            names("SCMP_ACT_ALLOW", true)
                .iter()
                .filter(|name| *name == "socket")
                .count(),
            4
        );
        let listed = verdict_of_each_listed_call();
        let unnamed: Vec<_> = listed
            .keys()
            .filter(|number| Sysno::new(**number as usize).is_none())
            .collect();
        assert!(unnamed.is_empty(), "{unnamed:?}");
    }
}
