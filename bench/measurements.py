"""The list of what is measured: the names of the results, and who measures them."""

from __future__ import annotations

from collections.abc import Callable

from bench import (
    client_doors,
    cloud,
    command_line,
    environment_build,
    image_change,
    install,
    intake,
    outputs,
    postgres,
    push_to_container,
    runs,
    scale,
    server_alone,
    staging,
    whole_way,
)
from bench.result import Result

Measure = Callable[[], list[Result]]

MEASUREMENTS: tuple[tuple[tuple[str, ...], Measure], ...] = (
    (("help_s",), command_line.help_s),
    (("validate_s",), command_line.validate_s),
    (("serve_start_s", "serve_again_s"), server_alone.start),
    (("idle_rss_mib", "idle_cpu_pct"), server_alone.idle),
    (("list_ms", "lists_per_s"), client_doors.lists),
    (("accept_ms", "accept_burst_ms"), client_doors.accept),
    (("webhook_ack_ratio", "webhook_p99_ms"), intake.webhooks),
    (("heartbeats_per_s", "heartbeat_p99_ms", "heartbeat_cpu_pct"), intake.heartbeats),
    (("webhooks_postgres_per_s",), postgres.webhooks),
    (("heartbeats_postgres_per_s",), postgres.heartbeats),
    (
        tuple(
            f"scale_{name}"
            for name in (
                "list",
                "dashboard",
                "accept",
                "webhook",
                "heartbeat",
                "claim",
                "sweep",
                "tally",
            )
        ),
        scale.scale,
    ),
    (("full_rss_mib", "full_cpu_pct", "cancel_2000_ms"), scale.full),
    (("run_overhead_s", "exit_to_final_s"), runs.run_overhead),
    (("agent_cpu_pct", "agent_rss_mib"), runs.agent),
    (("outputs_ratio", "outputs_agent_rss_mib"), outputs.outputs),
    (("many_outputs_s", "many_outputs_agent_rss_mib"), outputs.many_outputs),
    (
        (
            "github_requests_per_run",
            "final_to_check_s",
            "server_peak_mib",
            "github_requests_per_asked_run",
        ),
        whole_way.whole_way,
    ),
    (("provision_200_s",), cloud.provision),
    (("replacement_order_s",), cloud.replacement),
    (
        ("image_change_s", "image_change_speedup", "image_bytes_ratio"),
        image_change.image_change,
    ),
    (("environment_build_s", "environment_there_s"), environment_build.environment_build),
    (("push_to_container_s",), push_to_container.push_to_container),
    (("staging_cold_ratio", "staging_warm_ratio", "staging_rss_mib"), staging.staging),
    (("install_mib", "install_agent_mib"), install.install),
)

NAMES = tuple(name for names, _ in MEASUREMENTS for name in names)
