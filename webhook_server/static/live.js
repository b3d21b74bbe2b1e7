// Keeps a page live. What it shows is there without it, too: the server writes whole pages.
"use strict";
(() => {
  const page = document.body.dataset.page;
  const by = (id) => document.getElementById(id);
  const words = (text) => text.replace(/_/g, " ");
  const STATES = ["building", "queued", "provisioning", "running", "collecting", "releasing", "finished"];
  const LOG_LIMIT = 400000; // characters kept on the page: a browser scrolls that with ease

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children); // text becomes text nodes: nothing of a user's is ever markup
    return element;
  }

  function moment(iso) {
    if (!iso) return make("span", { className: "faint" }, "–");
    return relative(make("time", { dateTime: iso }, iso));
  }

  function relative(time) {
    const at = new Date(time.dateTime);
    const seconds = Math.round((Date.now() - at) / 1000);
    time.title = at.toLocaleString();
    if (seconds <= -60) time.textContent = `in ${Math.ceil(-seconds / 60)} min`;
    else if (seconds < -5) time.textContent = `in ${-seconds} s`;
    else if (seconds < 5) time.textContent = "just now";
    else if (seconds < 60) time.textContent = `${seconds} s ago`;
    else if (seconds < 3600) time.textContent = `${Math.floor(seconds / 60)} min ago`;
    else if (seconds < 86400) time.textContent = `${Math.floor(seconds / 3600)} h ago`;
    else time.textContent = at.toLocaleDateString();
    return time;
  }

  function pill(row) {
    const word = row.outcome || row.state;
    const mark = make("span", { className: "mark" });
    mark.setAttribute("aria-hidden", "true");
    return make("span", { className: `pill ${word}` }, mark, words(word));
  }

  function showLive(state) {
    const live = by("live");
    live.hidden = state === null;
    live.classList.toggle("lost", state === "lost");
    by("live-text").textContent = state === "lost" ? "reconnecting" : "live";
  }

  const short = (ref) => ref.replace(/^refs\/(heads|tags)\//, "").replace(/^refs\/pull\/(\d+)\/.*/, "#$1");
  const money = (text, digits) => "$" + Number(text).toFixed(digits);
  // Cents are rounded up, as everywhere: nothing looks free.
  const usd = (text) => "$" + (Math.max(0, Math.ceil(Number(text) * 100 - 1e-7)) / 100)
    .toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

  function size(bytes) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let step = 0;
    while (bytes >= 1000 && step < units.length - 1) { bytes /= 1000; step += 1; }
    return `${step && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[step]}`;
  }

  async function fetchJson(path) {
    const answer = await fetch(path, { headers: { Accept: "application/json" } });
    if (answer.status === 401) { location.reload(); throw new Error("signed out"); }
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    return answer.json();
  }

  // ── the list ──────────────────────────────────────────────────────────────────────────────

  function runRow(row, known) {
    const name = make("a", { className: "run", href: `/runs/${encodeURIComponent(row.id)}` },
      `${row.name || "unreadable spec"} `, make("span", { className: "faint" }, `#${row.number}`));
    return make("tr", { "data-run": row.id, className: known ? "" : "fresh" },
      make("td", {}, name, make("div", { className: "sub" }, row.repository)),
      make("td", {}, pill(row), make("div", { className: "sub reason", title: row.reason }, row.reason)),
      make("td", {}, make("code", {}, row.commit_sha.slice(0, 7)),
        make("div", { className: "sub" }, `${short(row.ref)} · ${row.trigger}`)),
      make("td", { className: "num" }, usd(row.cost_usd)),
      make("td", {}, moment(row.created_at)));
  }

  function showTally(open) {
    const all = Object.values(open).reduce((sum, count) => sum + count, 0);
    const waiting = (open.building || 0) + (open.queued || 0);
    document.querySelector("[data-tally=running]").textContent = String(all - waiting);
    document.querySelector("[data-tally=waiting]").textContent = String(waiting);
  }

  let stood = null; // where each run stood at the last look

  async function refreshList() {
    const { runs, open } = await fetchJson("/api/v1/runs?limit=50");
    showTally(open);
    const stands = runs.map((row) => row.id + row.state).join();
    if (stood !== null && stands !== stood) await refreshWarm(); // a run keeps an instance, or takes one
    stood = stands;
    const body = by("rows");
    if (!body) { if (runs.length) location.reload(); return; }
    const known = new Set([...body.children].map((row) => row.dataset.run));
    body.replaceChildren(...runs.map((row) => runRow(row, known.has(row.id))));
  }

  // No API tells of warm instances: the page itself is asked anew, and only this part taken.
  async function refreshWarm() {
    const answer = await fetch("/", { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("warm-section");
    if (!fresh) return;
    by("warm-section").replaceWith(fresh);
    fresh.querySelectorAll("time").forEach(relative);
  }

  function liveList() {
    if ("still" in document.body.dataset) return;
    const PERIOD_MS = 1500;
    setInterval(() => { if (!document.hidden) refreshWarm().catch(() => showLive("lost")); }, 15000); // its cost grows
    let last = "";
    const look = async () => {
      if (!document.hidden) {
        try {
          await refreshList();
          if (last !== "on") showLive((last = "on") && "live");
        } catch { showLive("lost"); last = "lost"; }
      }
      setTimeout(look, PERIOD_MS);
    };
    setTimeout(look, PERIOD_MS);
    showLive("live");
  }

  // ── charts ────────────────────────────────────────────────────────────────────────────────

  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 600, HEIGHT = 112, PAD = 6, MOST_POINTS = 400;
  const series = new Map();
  const dirty = new Set();

  function svg(tag, attributes) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  function chartName(name) {
    if (name.startsWith("metric:")) return name.slice(7);
    const gpu = name.match(/^gpu(\d+)(-memory)?$/);
    if (gpu) return `GPU ${gpu[1]}${gpu[2] ? " memory" : ""}`;
    return { cpu: "CPU", memory: "Memory" }[name] || name;
  }

  function amount(value, name) {
    if (/memory$/.test(name) && !name.startsWith("metric:")) return size(value);
    if (name === "cpu" || /^gpu\d+$/.test(name)) return `${Math.round(value)} %`;
    return Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(3) : String(+value.toFixed(4));
  }

  function figure(name) {
    for (const found of by("charts").children) if (found.dataset.series === name) return found;
    const made = make("figure", { className: "card chart", "data-series": name },
      make("figcaption", {}, `${chartName(name)} `, make("strong")));
    by("charts").append(made);
    by("charts-section").hidden = false;
    return made;
  }

  function draw(name) {
    const line = series.get(name), box = figure(name);
    const times = line.map((point) => point[0]), values = line.map((point) => point[1]);
    const from = times[0], to = times[times.length - 1];
    let low = Math.min(...values), high = Math.max(...values);
    if (!name.startsWith("metric:")) low = 0;
    if (name === "cpu" || /^gpu\d+$/.test(name)) high = Math.max(high, 100);
    if (high === low) { high += 1; low -= name.startsWith("metric:") ? 1 : 0; }
    const x = (at) => (to === from ? (at < from ? 0 : WIDTH) : ((at - from) / (to - from)) * WIDTH);
    const y = (value) => HEIGHT - PAD - ((value - low) / (high - low)) * (HEIGHT - 2 * PAD);
    const all = line.length === 1 ? [[from - 1, values[0]], line[0]] : line; // one value is level
    const points = all.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    const latest = values[values.length - 1];
    picture.setAttribute("aria-label", `${chartName(name)}: ${amount(latest, name)} now, between ${amount(Math.min(...values), name)} and ${amount(Math.max(...values), name)}`);
    for (const part of [0.25, 0.5, 0.75]) picture.append(svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part }));
    picture.append(svg("polygon", { class: "area", points: `0,${HEIGHT} ${points} ${WIDTH},${HEIGHT}` }));
    picture.append(svg("polyline", { class: "line", points }));
    const axis = make("div", { className: "axis" }, make("span", {}, `${amount(low, name)} – ${amount(high, name)}`), make("span", {}, `${Math.max(0, Math.round(to - from))} s`));
    box.querySelector("strong").textContent = amount(latest, name);
    box.querySelectorAll("svg, .axis").forEach((old) => old.remove());
    box.append(picture, axis);
  }

  function plot(name, at, value) {
    if (typeof value !== "number" || !Number.isFinite(value)) return;
    if (!series.has(name)) { if (series.size >= 24) return; series.set(name, []); }
    const line = series.get(name);
    line.push([at, value]);
    if (line.length > MOST_POINTS * 2) series.set(name, line.filter((_, index) => index % 2 === 1 || index === 0));
    if (!dirty.size) requestAnimationFrame(() => { dirty.forEach(draw); dirty.clear(); });
    dirty.add(name);
  }

  function sample(at, body) {
    plot("cpu", at, body.cpu_pct);
    plot("memory", at, body.memory_bytes);
    (Array.isArray(body.gpus) ? body.gpus : []).forEach((gpu, index) => {
      plot(`gpu${index}`, at, gpu.utilization_pct ?? gpu.gpu_pct);
      plot(`gpu${index}-memory`, at, gpu.memory_bytes ?? gpu.memory_used_bytes);
    });
  }

  // ── one run ───────────────────────────────────────────────────────────────────────────────

  const ANSI = /\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b\[[0-?]*[ -/]*[@-~]|\u001b[^[\]]|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

  function appendLog(text) {
    const log = by("log");
    const plain = text.replace(/\r\n/g, "\n").replace(ANSI, "");
    const last = log.lastChild && log.lastChild.nodeType === Node.TEXT_NODE ? log.lastChild : null;
    let whole = plain;
    if (plain.includes("\r") && last) { // a progress bar draws over its own line
      const cut = last.data.lastIndexOf("\n") + 1;
      whole = last.data.slice(cut) + plain;
      last.data = last.data.slice(0, cut);
    }
    log.append(whole.replace(/[^\n]*\r(?!$)/g, ""));
    let length = 0;
    for (let node = log.lastChild; node; node = node.previousSibling) {
      length += node.data.length;
      if (length > LOG_LIMIT) { while (log.firstChild !== node) log.firstChild.remove(); break; }
    }
    if (by("follow").checked) log.scrollTop = log.scrollHeight;
  }

  function duration(ms) {
    if (!(ms >= 0)) return "";
    if (ms < 10000) return `${(ms / 1000).toFixed(1)} s`;
    const s = Math.round(ms / 1000);
    if (s < 60) return `${s} s`;
    return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  }

  function showSteps(view) {
    const at = STATES.indexOf(view.state);
    for (const step of by("steps").children) {
      const index = STATES.indexOf(step.dataset.step);
      const over = index < at || view.state === "finished";
      step.className = over ? "done" : index === at ? "at" : "to-come";
      step.toggleAttribute("aria-current", index === at && !over);
      if (index === at && !over) step.dataset.since = view.state_since;
      else if (step.dataset.since) {
        step.querySelector(".took").textContent = duration(Date.parse(view.state_since) - Date.parse(step.dataset.since));
        delete step.dataset.since;
      }
    }
  }

  function showProgress(value, phase) {
    if (phase) { by("phase").textContent = phase; by("phase-fact").textContent = phase; }
    if (typeof value !== "number") return;
    by("progress").hidden = false;
    by("bar").value = value;
    by("percent").textContent = `${Math.round(value * 100)} %`;
  }

  const staging = new Map();
  function showStaging(body) {
    const name = String(body.name ?? ""), size = (count) => count >= 1e9 ? `${(count / 1e9).toFixed(1)} GB` : `${(count / 1e6).toFixed(1)} MB`;
    const whole = typeof body.total_bytes === "number" ? ` of ${size(body.total_bytes)}` : "";
    const left = typeof body.eta_s === "number" ? `, ${span(body.eta_s)} left` : "";
    staging.set(name, { ready: body.state === "ready", text: `data ${name}: ${body.state}, ${size(Number(body.done_bytes) || 0)}${whole}${left}` });
    const lines = [...staging.values()].map((one) => Object.assign(document.createElement("li"), { textContent: one.text }));
    by("staging").replaceChildren(...lines);
    by("staging").hidden = [...staging.values()].every((one) => one.ready);
  }

  function span(seconds) {
    const s = Math.max(Math.trunc(seconds), 0), two = (number) => String(number).padStart(2, "0");
    const d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
    if (d) return `${d}d${h}h`;
    if (h) return `${h}h${two(m)}m`;
    return m ? `${m}m${two(s % 60)}s` : `${s}s`;
  }

  const between = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;
  const sub = (...children) => make("div", { className: "sub" }, ...children);

  function machineCell(one) {
    const cell = make("td", {}, `${one.nodes > 1 ? `${one.nodes} × ` : ""}${one.machine || "–"}`);
    if (one.spot) cell.append(" ", make("span", { className: "pill quiet" }, "spot"));
    if (one.warm_run) cell.append(sub("kept warm by ", make("a", { href: `/runs/${encodeURIComponent(one.warm_run)}` }, `run ${one.warm_run}`)));
    return cell;
  }

  function orderCell(one, open) {
    const cell = make("td", {}, moment(one.ordered_at));
    if (!one.marks.length) return cell;
    const names = JSON.parse(by("step-words").textContent);
    cell.append(make("details", { className: "boot", open }, make("summary", {}, "boot"),
      ...one.marks.map((mark) => sub(`${(names[mark.name] || mark.name).replace(ANSI, "")} ${span(between(one.ordered_at, mark.at))}`))));
    return cell;
  }

  function costCell(one) {
    return make("td", { className: "num" }, money(one.cost_usd, 4), sub(`$${one.usd_per_hour}/h${one.nodes > 1 ? " each" : ""}`));
  }

  function showAttempts(view) {
    const opened = [...by("attempts").children].map((row) => Boolean(row.querySelector("details[open]")));
    by("attempts-section").hidden = !view.attempts.length;
    by("attempts").replaceChildren(...view.attempts.map((one, index) => make("tr", {},
      make("td", {}, String(one.number)),
      make("td", {}, make("code", {}, one.instance), sub(`${one.provider} · ${one.place}`)),
      machineCell(one), orderCell(one, opened[index] || false),
      make("td", { className: "num" }, one.started_at && one.ended_at ? span(between(one.started_at, one.ended_at)) : "–"),
      make("td", { className: "num" }, one.lost_s ? span(one.lost_s) : "–"), costCell(one),
      make("td", {}, one.reason || "–", ...(one.cause ? [sub(words(one.cause))] : [])))));
    const newest = view.attempts[view.attempts.length - 1];
    by("tries").textContent = String(view.attempts.length);
    if (newest) by("place").textContent = `${newest.provider} · ${newest.place}`;
  }

  function attached(name, digest) {
    return digest ? [make("code", {}, name), ", SHA-256 ", make("code", { title: digest }, `${digest.slice(0, 12)}…`)] : [];
  }

  function showImage(view) {
    const about = view.environment || { key: "", base: "", base_digest: "", frameworks: [] };
    const gpu = (one) => (one.cuda ? `CUDA ${one.cuda}` : "CPU only");
    const facts = {
      Environment: [make("code", {}, about.key)],
      Base: [make("code", {}, about.base), ...(about.base_digest ? [make("div", { className: "sub" }, make("code", {}, about.base_digest))] : [])],
      Python: about.python ? [about.python] : [],
      Frameworks: about.frameworks.length ? [about.frameworks.map((one) => `${one.name} ${one.version} (${gpu(one)})`).join(", ")] : [],
      Driver: about.minimum_driver ? [`${about.minimum_driver} or newer`] : [],
      Lock: attached("requirements.lock", about.lock_sha256),
      "Bill of materials": attached("sbom.cdx.json", about.sbom_sha256),
    };
    by("image").hidden = !view.image;
    by("image").replaceChildren(make("code", {}, view.image || ""));
    by("environment").hidden = !view.environment;
    by("environment").replaceChildren(...Object.entries(facts).filter(([, fact]) => fact.length)
      .flatMap(([name, fact]) => [make("dt", {}, name), make("dd", {}, ...fact)]));
  }

  function about(output) {
    const packed = output.packed ? ` (${output.packed} files)` : "";
    return packed + (output.partial ? ` partial, attempt ${output.attempt}` : "");
  }

  async function showOutputs(view) {
    if (!view.outputs.length) return;
    const outputs = await fetchJson(`/api/v1/runs/${view.id}/outputs`);
    by("outputs-section").hidden = !outputs.length;
    by("outputs").replaceChildren(...outputs.map((one) => make("tr", {},
      make("td", {}, make("a", { href: one.url, download: "" }, one.path), about(one)),
      make("td", { className: "num" }, size(one.size_bytes)),
      make("td", {}, make("code", { title: one.sha256 }, `${one.sha256.slice(0, 12)}…`)))));
  }

  function showHold(hold) {
    by("hold").hidden = !hold;
    if (!hold) return;
    by("hold-who").textContent = hold.who;
    by("hold-cap").textContent = usd(hold.cap_usd);
    by("hold-reasons").replaceChildren(...hold.reasons.map((text) => make("li", {}, text.replace(ANSI, ""))));
  }

  async function showView(runId) {
    const view = await fetchJson(`/api/v1/runs/${runId}`);
    by("pill").replaceChildren(pill(view));
    by("reason").textContent = view.reason || "";
    by("cost").textContent = usd(view.cost_usd) + (view.max_cost_usd ? ` of ${usd(view.max_cost_usd)}` : "");
    showHold(view.hold);
    by("estimate").hidden = !view.price_source;
    by("estimate").title = view.price_source;
    by("cancel").hidden = view.state === "finished";
    document.title = `${view.name || "Run"} · ${words(view.outcome || view.state)} · Cynthus`;
    showSteps(view);
    showProgress(view.progress, view.phase);
    showAttempts(view);
    showImage(view);
    const notices = view.notices.map((text) => make("li", {}, text.replace(ANSI, "")));
    by("notices").hidden = !notices.length;
    by("notices").replaceChildren(...notices);
    if (view.release_url && /^https?:/.test(view.release_url)) {
      by("release").replaceChildren(make("a", { href: view.release_url, rel: "noreferrer noopener" }, "open"));
    }
    await showOutputs(view);
    return view;
  }

  function liveRun() {
    const { run, seq } = document.body.dataset;
    const rank = "rank" in document.body.dataset ? Number(document.body.dataset.rank) : null;
    const prefix = new RegExp(`^\\[rank ${rank}\\] `, "gm");
    let attempt = Number(document.body.dataset.attempt);
    const stored = JSON.parse(by("series").textContent);
    for (const [name, line] of Object.entries(stored)) { series.set(name, line); draw(name); }
    const log = by("log");
    log.scrollTop = log.scrollHeight;
    by("follow-label").hidden = false;
    log.addEventListener("scroll", () => { by("follow").checked = log.scrollHeight - log.scrollTop - log.clientHeight < 40; });
    by("follow").addEventListener("change", () => { if (by("follow").checked) log.scrollTop = log.scrollHeight; });
    by("cancel").addEventListener("submit", (event) => { if (!confirm("Cancel this run?")) event.preventDefault(); });
    if ("still" in document.body.dataset) return;

    let asked = null;
    const look = () => { asked ??= setTimeout(() => { asked = null; showView(run).catch(() => showLive("lost")); }, 60); };
    const source = new EventSource(`/api/v1/runs/${run}/stream?after=${seq}`);
    const on = (kind, act) => source.addEventListener(kind, (message) => {
      const event = JSON.parse(message.data);
      if (event.attempt > attempt) { attempt = event.attempt; log.replaceChildren(); }
      act(event.body, Date.parse(event.at) / 1000, event.rank);
    });
    source.onopen = () => showLive("live");
    source.onerror = () => showLive("lost");
    on("log", (body, _, whose) => {
      const text = String(body.text ?? "");
      if (rank === null) appendLog(text);
      else if (whose === rank) appendLog(text.replace(prefix, ""));
    });
    on("progress", (body) => showProgress(body.value, null));
    on("staging", showStaging);
    on("phase", (body) => showProgress(undefined, String(body.name ?? "").replace(ANSI, "")));
    on("metric", (body, at) => plot(`metric:${body.name}`, at, body.value));
    on("sample", (body, at) => sample(at, body));
    on("notice", look);
    on("state", (body) => {
      look();
      if (body.state === "finished") { source.close(); showLive(null); }
    });
    setInterval(look, 10000); // cost grows with time, not with events
    setInterval(() => {
      const step = by("steps").querySelector(".at");
      if (step && step.dataset.since) step.querySelector(".took").textContent = duration(Date.now() - Date.parse(step.dataset.since));
    }, 500);
    look();
  }

  document.querySelectorAll("time").forEach(relative);
  setInterval(() => document.querySelectorAll("time").forEach(relative), 20000);
  if (page === "runs") liveList();
  if (page === "run") liveRun();
})();
