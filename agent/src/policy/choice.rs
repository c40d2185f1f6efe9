//! The words of a policy file that come out of fixed lists. Part of the raw form: no logic.

use schemars::JsonSchema;

/// A word out of a fixed list.
pub(super) trait Choice: Copy + 'static {
    /// The words and what they mean, the default first.
    const WORDS: &'static [(&'static str, Self)];
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident as $title:literal { $($(#[$variant_doc:meta])* $word:literal = $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
        #[schemars(rename = $title)]
        pub(super) enum $name {
            $($(#[$variant_doc])* #[schemars(rename = $word)] $variant,)*
        }

        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)*];
        }
    };
}

choice! {
    /// Whether what no rule allows is refused or only reported.
    RawMode as "Mode" {
        /// Refuse it.
        "enforce" = Enforce,
        /// Let it pass and report it; private ranges stay refused.
        "observe" = Observe,
    }
}

choice! {
    /// How the agent talks to the worker.
    RawWorkerProtocol as "WorkerProtocol" {
        /// A plain program: its own stdin, stdout and stderr.
        "exec" = Exec,
        /// One JSON request in, one result out.
        "json" = Json,
        /// Model Context Protocol over stdio.
        "mcp" = Mcp,
    }
}

choice! {
    /// What is pinned.
    RawPinKind as "PinKind" {
        /// The content of one file.
        "file" = File,
        /// A folder with everything below it.
        "directory" = Directory,
    }
}

choice! {
    /// Whether there must be a lock file.
    RawLockRule as "LockRule" {
        /// It counts where there is one.
        "optional" = Optional,
        /// Without one the policy is refused.
        "required" = Required,
    }
}

choice! {
    /// The transport a rule opens.
    RawProtocol as "Protocol" {
        /// TCP.
        "tcp" = Tcp,
        /// UDP.
        "udp" = Udp,
    }
}

choice! {
    /// Whether the first data of a connection must be a TLS handshake for an allowed name.
    RawTls as "Tls" {
        /// It must.
        "require" = Require,
        /// Another protocol is spoken on these ports.
        "off" = Off,
    }
}

choice! {
    /// What becomes of a handshake that hides its name.
    RawEch as "Ech" {
        /// Refused.
        "refuse" = Refuse,
        /// Accepted, with the weaker guarantee that comes with it.
        "allow" = Allow,
    }
}

choice! {
    /// A kind of DNS record.
    RawRecord as "Record" {
        /// IPv4 addresses.
        "A" = A,
        /// IPv6 addresses.
        "AAAA" = Aaaa,
        /// Mail exchangers.
        "MX" = Mx,
        /// Text.
        "TXT" = Txt,
        /// Services.
        "SRV" = Srv,
        /// Certification authorities.
        "CAA" = Caa,
        /// HTTPS service bindings.
        "HTTPS" = Https,
        /// Service bindings.
        "SVCB" = Svcb,
    }
}

choice! {
    /// Loopback among the worker's own processes.
    RawLoopback as "Loopback" {
        /// 127.0.0.1 among the worker's own processes.
        "own" = Own,
    }
}

choice! {
    /// The list of system calls to begin with.
    RawProfile as "Profile" {
        /// What ordinary network programs need.
        "default" = Default,
        /// And what language runtimes need.
        "interpreter" = Interpreter,
        /// Files, memory and one network client.
        "strict" = Strict,
    }
}

choice! {
    /// Whose calls a worker that is kept warm may take.
    RawReuse as "Reuse" {
        /// Those of one session of one principal.
        "session" = Session,
        /// Those of one principal.
        "principal" = Principal,
        /// One call, then it ends.
        "never" = Never,
    }
}

choice! {
    /// Whether a call carries an idempotency key.
    RawIdempotency as "Idempotency" {
        /// It may.
        "optional" = Optional,
        /// It must.
        "required" = Required,
        /// A key is not looked at: every call is one of its own.
        "none" = None,
    }
}

choice! {
    /// One of a verb's schemas.
    RawWhich as "Which" {
        /// That of the arguments.
        "arguments" = Arguments,
        /// That of the result.
        "result" = Result,
    }
}
