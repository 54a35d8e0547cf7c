"""The commands about a cluster and its jobs, from `rankone up` to `rankone report`."""

import os
import re
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from lora.files.atomic_write import write_atomic
from rl.cli.errors import one_line_errors
from rl.cluster.port_owner import is_anothers
from rl.monitoring.plain_text import plain

if TYPE_CHECKING:
    from rl.jobs.client import Cluster, Job

DASHBOARD_PORT = 8265
"""Ray's own choice."""
ADDRESS_HELP = "The dashboard of the cluster's head; by default RAY_API_SERVER_ADDRESS, else this machine's."
Address = Annotated[str | None, typer.Option(metavar="URL", help=ADDRESS_HELP, show_default=False)]
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's submission id.", show_default=False)]


@one_line_errors
def up_command(
    join: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Add this machine to the head at HOST:PORT.")
    ] = None,
    port: Annotated[int, typer.Option(help="The head's port for nodes.")] = 6379,
    dashboard_port: Annotated[int, typer.Option(help="The dashboard's port.")] = DASHBOARD_PORT,
    dashboard_host: Annotated[
        str, typer.Option(help="Interface the dashboard binds to; 0.0.0.0 accepts other machines.")
    ] = "127.0.0.1",
    token: Annotated[
        bool | None,
        typer.Option(
            "--token/--no-token",
            help="Let in only who has the token of ~/.ray/auth_token; by default as RAY_AUTH_MODE says, else yes.",
            show_default=False,
        ),
    ] = None,
    temp_dir: Annotated[
        str | None,
        typer.Option(help="Where Ray keeps its sessions; by default below /tmp, where no other user gets in."),
    ] = None,
) -> None:
    """Start a Ray head on this machine whose dashboard shows accuracy curves, or add this machine to one."""
    from rl.jobs.head import join_cluster, start_head

    if join is not None:
        join_cluster(join, temp_dir)
        print(f"this machine is a node of {join} now; `ray stop` takes it away again")
        return
    head = start_head(port, dashboard_host, dashboard_port, temp_dir, token=token)
    print(
        f"dashboard   {head.dashboard}" + ("  (asks once for the token: cat ~/.ray/auth_token)" if head.token else "")
    )
    print(f"curves      {head.dashboard}/rankone/ and on the dashboard's Metrics, Overview and job pages")
    print(
        f"more nodes  rankone up --join {head.address}" + ("  (with the same ~/.ray/auth_token)" if head.token else "")
    )
    print(
        "runs        rankone submit CONFIG"
        + ("" if dashboard_port == DASHBOARD_PORT else f" --address {head.dashboard}")
    )
    mode = " RAY_AUTH_MODE=token" if head.token else ""
    print(f"ray's own   export RAY_ADDRESS={head.address}{mode}; then ray status, ray job submit, ...")
    if not head.token:
        print("no token    whoever reaches this machine's ports can run anything on the cluster")
    print("end it      ray stop")


@one_line_errors
def page_command(
    port: Annotated[int, typer.Option(help="The page's port on the head's loopback.")] = 8266,
) -> None:
    """Start the page of curves on a cluster that `rankone up` did not start. Run it on one of its nodes."""
    from rl.jobs.head import attach_page

    print(f"curves      {attach_page(port)}/ on the head; jobs that start from now on appear there")


@one_line_errors
def submit_command(
    config: Annotated[Path, typer.Argument(help="The TOML file of a run, or of a sweep.", show_default=False)],
    address: Address = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    sft: Annotated[bool, typer.Option("--sft", help="Run it as `rankone sft` does, on given completions.")] = False,
    name: Annotated[str | None, typer.Option(help="The job's name in the dashboard; by default the run's.")] = None,
    follow: Annotated[bool, typer.Option(help="Follow the logs, and end with the run's exit status.")] = True,
) -> None:
    """Send a run, or a sweep, to a Ray cluster as a job."""
    from rl.jobs.client import Cluster
    from rl.jobs.spec import read_job_spec
    from rl.jobs.submit import submit

    spec = read_job_spec(config, override or [], sft=sft)  # every mistake shows here, not on the cluster
    cluster = Cluster(_address(address))
    name = name or spec.name
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80].strip("-.") or "run"  # it goes into addresses and paths
    for model in spec.models:
        print(f"the model is not sent: every node needs {model}", file=sys.stderr)
    if spec.ignores_local_runtime:
        print('runtime = "local" is ignored: a job runs on the cluster', file=sys.stderr)
    job = submit(cluster, spec, name, f"{slug}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid():x}")
    print(f"job {job}\npage {cluster.address}/#/jobs/{job}\nstop it with: rankone stop {job}", flush=True)
    if follow:
        _follow(cluster, job)


@one_line_errors
def jobs_command(address: Address = None) -> None:
    """List the cluster's jobs."""
    from rl.jobs.client import Cluster

    Console().print(jobs_table(Cluster(_address(address)).jobs()), markup=False)


@one_line_errors
def status_command(job: Id, address: Address = None) -> None:
    """Show one job; the exit status is the job's."""
    from rl.jobs.client import Cluster

    info = Cluster(_address(address)).job(job)
    print(f"{info.id}  {info.status}  {info.message}")
    raise typer.Exit(info.exit_code if info.over else 0)


@one_line_errors
def logs_command(
    job: Id,
    address: Address = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="As they come.")] = False,
) -> None:
    """Show a job's logs."""
    from rl.jobs.client import Cluster

    cluster = Cluster(_address(address))
    if follow:
        _follow(cluster, job)
    sys.stdout.write(cluster.logs(job))


@one_line_errors
def stop_command(job: Id, address: Address = None) -> None:
    """End a job so that its run can be resumed, and wait until it has ended."""
    from rl.jobs.client import Cluster

    info = Cluster(_address(address)).stop(job)
    print(f"{info.id}  {info.status}")
    raise typer.Exit(0 if info.over else 1)


@one_line_errors
def fetch_command(
    job: Id,
    address: Address = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; by default a directory of the job's name.")] = None,
) -> None:
    """Copy a job's metrics, its curve and its best adapter here."""
    from rl.jobs.client import Cluster
    from rl.jobs.fetch import fetch

    target = out or Path(job)
    if not fetch(Cluster(_address(address)).page, job, target):
        print("the run has no adapter yet: there will be one after its first evaluation", file=sys.stderr)
    print(target)


@one_line_errors
def report_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Directories of runs.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
) -> None:
    """Write the curves of runs as one HTML file that needs nothing else."""
    from rl.monitoring.dashboard.report import report

    write_atomic(out, report(runs).encode())
    print(out)


@one_line_errors
def grafana_command(
    out: Annotated[
        Path | None, typer.Option(help="The directory to write to; by default where this node's Ray keeps its own.")
    ] = None,
) -> None:
    """Write the dashboard for a Grafana of your own, whose Prometheus scrapes the cluster."""
    from rl.cluster.ray_directory import latest_session
    from rl.monitoring.dashboard.grafana import grafana_dashboard

    configured = os.environ.get("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR")
    folder = out or (Path(configured) if configured else latest_session() / "metrics" / "grafana" / "dashboards")
    if not folder.is_dir():
        raise ValueError(f"there is no directory {folder}: start Ray first, or name one with --out")
    file = folder / "rankone_grafana_dashboard.json"
    if file.is_symlink():
        file.unlink()  # written through it, the dashboard would land wherever it leads
    print(write_atomic(file, grafana_dashboard().encode()))


@one_line_errors
def watch_command(
    job: Annotated[str | None, typer.Argument(metavar="ID", help="One run or job; by default all.")] = None,
    address: Address = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
) -> None:
    """Watch the curves of a cluster's runs in the terminal."""
    from rl.jobs.client import Cluster
    from rl.jobs.watch import watch

    watch(Cluster(_address(address)).page, job, Console(), None if once else every)


COMMANDS = {
    "up": up_command, "submit": submit_command, "jobs": jobs_command, "status": status_command, "logs": logs_command,
    "stop": stop_command, "fetch": fetch_command, "watch": watch_command, "page": page_command,
    "report": report_command, "grafana": grafana_command,
}  # fmt: skip


def jobs_table(jobs: "Sequence[Job]") -> Table:
    """Return a table with a line a job. Its name is whatever somebody else gave it."""
    whole = Column("ID", no_wrap=True)  # whoever wants to stop it needs it whole
    table = Table(whole, "name", "status", "started", "lasted", box=None)
    for job in jobs:
        began = datetime.fromtimestamp(job.started).strftime("%m-%d %H:%M") if job.started else ""
        lasted = f"{((job.ended or time.time()) - job.started) / 60:.1f} min" if job.started else ""
        table.add_row(plain(job.id), plain(job.name), job.status, began, lasted)
    return table


def _follow(cluster: "Cluster", job: str) -> None:
    """Write the job's logs as they come, and exit with the job's own status. Ctrl-C leaves the job running."""

    def write(lines: str) -> None:
        sys.stdout.write(lines)
        sys.stdout.flush()

    try:
        info = cluster.follow(job, write)
    except KeyboardInterrupt:
        print(f"\nthe job goes on; follow it with: rankone logs -f {job}", file=sys.stderr)
        raise typer.Exit(130) from None
    if info.status != "SUCCEEDED":
        print(f"rankone: job {job} {info.status.lower()}: {info.message}", file=sys.stderr)
    if info.exit_code == 127:
        print("rankone: the cluster's nodes have no rankone on their PATH; install it there", file=sys.stderr)
    raise typer.Exit(info.exit_code)


def _address(given: str | None) -> str:
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or f"http://127.0.0.1:{DASHBOARD_PORT}"
    if not given and not os.environ.get("RAY_API_SERVER_ADDRESS") and is_anothers(DASHBOARD_PORT):
        raise ValueError(
            f"port {DASHBOARD_PORT} of this machine is another user's: name the dashboard of a cluster of your own "
            "(--address, or RAY_API_SERVER_ADDRESS)"
        )
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address!r} is no dashboard's address: it begins with http://, as in http://head:8265")
    return address
