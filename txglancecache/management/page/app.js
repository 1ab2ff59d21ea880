// The page of one node: what is in its cache, what is being fetched, the queue, and what happens.
// It knows the JSON API below /cache and nothing else. A token, where one is needed, lives in `token` only.

const $ = (id) => document.getElementById(id);
const PAGE = 200;
const EVERY = 2000;
const HISTORY = 120;

let token = null;
let sort = { field: "id", order: "asc" };
let limit = PAGE;
let known = new Map();
let samples = [];
// From where to go on. After an event that the node does not know comes all that it has.
let lastEvent = "none";

// ------------------------------------------------------------------ words and numbers

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let place = 0;
  while (count >= 1024 && place < units.length - 1) { count /= 1024; place += 1; }
  return `${place && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[place]}`;
}

function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

const ago = (time) => (time ? `${span(Math.max(0, Date.now() / 1000 - time))} ago` : "never");
const percent = (part, whole) => (whole ? `${Math.floor((100 * part) / whole)} %` : "–");

// ------------------------------------------------------------------ talking to the node

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...(options.headers || {}) };
  if (token) headers["X-Auth-Token"] = token;
  if (options.json !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method: options.method || "GET", headers, cache: "no-store", credentials: "omit", signal: options.signal,
    body: options.json === undefined ? undefined : JSON.stringify(options.json),
  });
  if (answer.ok) return options.stream ? answer : answer.status === 204 ? null : answer.json();
  let message = `${answer.status} ${answer.statusText}`;
  try { message = (await answer.json()).error.message; } catch { /* it was no JSON: the status says enough */ }
  throw new Refused(answer.status, message);
}

function say(text, failed = false) {
  const notice = $("notice");
  notice.textContent = text;
  notice.classList.toggle("failed", failed);
  clearTimeout(say.timer);
  if (text && !failed) say.timer = setTimeout(() => { notice.textContent = ""; }, 6000);
}

let asking = null;
function askForToken(problem = "") {
  if (asking) return asking;
  asking = new Promise((resolve) => {
    const dialog = $("login");
    $("login-problem").textContent = problem;
    $("token").value = "";
    dialog.addEventListener("close", () => {
      token = $("token").value.trim() || null;
      $("token").value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

function confirmed(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = $("confirm");
    $("confirm-title").textContent = title;
    $("confirm-text").textContent = text;
    $("confirm-yes").textContent = yes;
    dialog.returnValue = "no";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

async function act(done, work) {
  try {
    const result = await work();
    say(typeof done === "function" ? done(result) : done);
  } catch (error) {
    if (error.status === 401) { await askForToken("That token was not accepted."); return; }
    say(error.message, true);
  }
  refresh();
}

// ------------------------------------------------------------------ drawing

function strip(element, extents, size, label) {
  // At most so many pieces are drawn: more could not be told apart.
  const pieces = extents.slice(0, 400);
  element.replaceChildren(...pieces.map(([start, stop]) => {
    const piece = document.createElement("span");
    piece.style.left = `${(100 * start) / size}%`;
    piece.style.width = `${(100 * (stop - start)) / size}%`;
    return piece;
  }));
  element.setAttribute("aria-label", label);
}

function chart(svg, values, label, top = Math.max(...values, 1e-9)) {
  const points = values.map((value, n) =>
    `${((240 * n) / Math.max(1, values.length - 1)).toFixed(1)},${(58 - (54 * Math.min(value, top)) / top).toFixed(1)}`);
  const make = (name, list) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
    shape.setAttribute("points", list.join(" "));
    return shape;
  };
  const last = points.length ? points[points.length - 1].split(",")[0] : "0";
  svg.replaceChildren(make("polygon", ["0,60", ...points, `${last},60`]), make("polyline", points));
  svg.setAttribute("aria-label", label);
}

function drawNode(node, ready) {
  $("node").textContent = node.node;
  document.title = `${node.node} · Glance cache`;
  $("facts").textContent = `${node.version}, up ${span(node.uptime)}, in front of ${node.origin}`;
  const badge = $("ready");
  badge.textContent = ready.ready ? "ready" : "not ready";
  badge.className = `badge ${ready.ready ? "good" : "bad"}`;
  const bad = Object.entries(ready.checks || {}).filter(([, check]) => check.ok === false);
  badge.title = bad.map(([name, check]) => `${name}: ${check.detail || "failed"}`).join("; ");

  const { sizes, counters } = node;
  $("disk-figure").textContent = bytes(sizes.bytes_on_disk);
  const bar = $("disk-bar");
  bar.replaceChildren(...[["used", sizes.bytes_on_disk], ["reserved", sizes.reserved]].map(([kind, count]) => {
    const part = document.createElement("span");
    part.className = kind;
    part.style.width = `${Math.min(100, (100 * count) / sizes.max_size)}%`;
    return part;
  }));
  bar.setAttribute("aria-label", `${percent(sizes.bytes_on_disk, sizes.max_size)} of ${bytes(sizes.max_size)} used`);
  $("disk-legend").textContent = `${percent(sizes.bytes_on_disk, sizes.max_size)} of ${bytes(sizes.max_size)}`
    + (sizes.reserved ? `, ${bytes(sizes.reserved)} promised` : "")
    + `; ${bytes(sizes.disk_free)} free on disk`
    + (sizes.quarantined ? `; ${bytes(sizes.quarantined)} in quarantine` : "");

  const asked = counters.hits + counters.misses + counters.collapsed + counters.bypassed;
  samples.push({ time: performance.now(), hits: counters.hits, asked, served: counters.bytes_served,
    origin: counters.bytes_from_origin + counters.bytes_passed_through });
  samples = samples.slice(-HISTORY - 1);
  $("ratio-figure").textContent = percent(counters.hits, asked);
  $("ratio-legend").textContent = `${counters.hits} hits, ${counters.misses} misses, ${counters.collapsed} joined, `
    + `${counters.bypassed} passed through`;
  chart($("ratio-chart"), samples.map((one) => (one.asked ? one.hits / one.asked : 0)),
    `Hit ratio over time, now ${percent(counters.hits, asked)}`, 1);
  for (const [name, legend] of [["served", "delivered"], ["origin", "fetched"]]) {
    const rates = samples.slice(1).map((one, n) =>
      Math.max(0, (1000 * (one[name] - samples[n][name])) / (one.time - samples[n].time)));
    const now = rates.length ? rates[rates.length - 1] : 0;
    $(`${name}-figure`).textContent = `${bytes(now)}/s`;
    $(`${name}-legend`).textContent = `${bytes(samples[samples.length - 1][name])} ${legend} since the start`;
    chart($(`${name}-chart`), rates, `Bytes per second ${legend} over time, now ${bytes(now)} per second`);
  }
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function drawImages(list) {
  const body = $("image-rows");
  const rows = new Map([...body.children].map((row) => [row.dataset.id, row]));
  known = new Map(list.images.map((image) => [image.id, image]));
  const ordered = list.images.map((image) => {
    let row = rows.get(image.id);
    if (!row) {
      row = $("image-row").content.firstElementChild.cloneNode(true);
      row.dataset.id = image.id;
      for (const button of row.querySelectorAll("button")) {
        const what = button.textContent || "Show";
        button.setAttribute("aria-label", `${what} image ${image.id}`);
      }
    }
    drawImage(row, image);
    return row;
  });
  // Only what moved is touched, so that the focus stays where it is.
  ordered.forEach((row, place) => {
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] || null);
  });
  while (body.children.length > ordered.length) body.lastElementChild.remove();
  put($("images-count"), `${list.images.length} of ${list.total}`);
  $("images-empty").hidden = list.total > 0;
  $("more").hidden = list.images.length >= list.total;
}

function drawImage(row, image) {
  put(row.querySelector(".id"), image.id);
  put(row.querySelector(".marks"), [image.pinned ? "pinned" : "", image.filling ? "being fetched" : "",
    image.complete ? "" : image.filling ? "" : "partial"].filter(Boolean).join(", "));
  put(row.querySelector(".size"), bytes(image.size));
  const share = image.complete ? "complete" : percent(image.bytes_on_disk, image.size);
  put(row.querySelector(".share"), share);
  const shape = `${image.bytes_on_disk}`;
  const bar = row.querySelector(".strip");
  if (bar.dataset.shape !== shape) {
    bar.dataset.shape = shape;
    strip(bar, image.bytes_on_disk ? [[0, image.bytes_on_disk]] : [], image.size, `${share} on disk`);
  }
  put(row.querySelector(".hits"), `${image.hits}`);
  put(row.querySelector(".access"), ago(image.last_access));
  put(row.querySelector(".readers"), `${image.readers}`);
  const pin = row.querySelector('[data-do="pin"], [data-do="unpin"]');
  put(pin, image.pinned ? "Unpin" : "Pin");
  pin.dataset.do = image.pinned ? "unpin" : "pin";
  pin.setAttribute("aria-label", `${pin.textContent} image ${image.id}`);
  row.querySelector('[data-do="verify"]').disabled = !image.complete;
  row.querySelector('[data-do="fetch"]').disabled = image.complete || image.filling;
}

// What is there of images that are not whole: asked for once, and again when there is more of it.
async function drawStrips() {
  const due = [...$("image-rows").children].filter((row) => {
    const image = known.get(row.dataset.id);
    return image && !image.complete && row.querySelector(".strip").dataset.drawn !== `${image.bytes_on_disk}`;
  }).slice(0, 10);
  await Promise.all(due.map(async (row) => {
    const image = await ask(`/cache/images/${encodeURIComponent(row.dataset.id)}`).catch(() => null);
    if (!image) return;
    const bar = row.querySelector(".strip");
    bar.dataset.drawn = `${image.bytes_on_disk}`;
    strip(bar, image.extents, image.size, `${percent(image.bytes_on_disk, image.size)} on disk`);
  }));
}

async function drawFills() {
  const filling = [...known.values()].filter((image) => image.filling).slice(0, 12);
  $("fills").hidden = filling.length === 0;
  const found = await Promise.all(filling.map((image) =>
    ask(`/cache/images/${encodeURIComponent(image.id)}`).catch(() => null)));
  $("fill-list").replaceChildren(...found.filter(Boolean).map((image) => {
    const item = document.createElement("li");
    const name = document.createElement("span");
    name.className = "id";
    name.textContent = image.id;
    const bar = document.createElement("div");
    bar.className = "strip";
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", "100");
    bar.setAttribute("aria-valuenow", `${Math.floor((100 * image.bytes_on_disk) / image.size)}`);
    strip(bar, image.extents, image.size, `Image ${image.id}`);
    const rate = document.createElement("span");
    rate.textContent = `${percent(image.bytes_on_disk, image.size)} · ${bytes(image.rate)}/s · `
      + `${image.readers} reading`;
    item.append(name, bar, rate);
    return item;
  }));
}

function cell(text, kind = "") {
  const made = document.createElement("td");
  made.textContent = text;
  made.className = kind;
  return made;
}

function drawJobs(list) {
  const order = { running: 0, queued: 1, failed: 2, cancelled: 3, done: 4 };
  const jobs = list.jobs.sort((a, b) => order[a.state] - order[b.state] || b.id - a.id).slice(0, 100);
  $("jobs-empty").hidden = jobs.length > 0;
  const waiting = list.jobs.filter((job) => job.state === "queued").length;
  const running = list.jobs.filter((job) => job.state === "running").length;
  put($("jobs-count"), `${running} running, ${waiting} waiting`);
  $("cancel-queued").disabled = waiting === 0;
  const focused = document.activeElement?.closest?.("#job-rows tr")?.dataset.id;
  $("job-rows").replaceChildren(...jobs.map((job) => {
    const row = document.createElement("tr");
    row.dataset.id = job.id;
    const progress = cell("");
    if (job.state === "running" && job.size) {
      const bar = document.createElement("progress");
      bar.max = job.size;
      bar.value = job.done;
      bar.setAttribute("aria-label", `Job ${job.id}`);
      progress.append(bar, ` ${percent(job.done, job.size)}, ${bytes(job.rate)}/s`
        + (job.eta === null ? "" : `, ${span(job.eta)} left`));
    } else {
      progress.textContent = job.error
        || (job.state === "done" && job.finished && job.started ? `in ${span(job.finished - job.started)}` : "");
    }
    const buttons = cell("", "buttons");
    if (job.state === "queued" || job.state === "running") {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Cancel";
      button.setAttribute("aria-label", `Cancel job ${job.id}`);
      button.addEventListener("click", () => act(`Job ${job.id} is cancelled.`, () =>
        ask(`/cache/jobs/${job.id}`, { method: "DELETE" })));
      buttons.append(button);
    }
    row.append(cell(`${job.id}`, "number"), cell(job.kind), cell(job.image_id, "id"), cell(job.state), progress,
      cell(`${job.priority}`, "number"), buttons);
    return row;
  }));
  if (focused) $("job-rows").querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus();
}

function drawEvent(event) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  const moment = new Date(1000 * event.time);
  time.dateTime = moment.toISOString();
  time.textContent = moment.toLocaleTimeString();
  const kind = document.createElement("span");
  kind.textContent = event.kind;
  if (/failed|outdated/.test(event.kind)) kind.className = "bad";
  const what = document.createElement("span");
  what.className = "what";
  what.textContent = [event.image_id, event.detail].filter(Boolean).join(" · ");
  item.append(time, kind, what);
  $("events").prepend(item);
  while ($("events").children.length > 200) $("events").lastElementChild.remove();
}

async function showDetails(id) {
  const image = await ask(`/cache/images/${encodeURIComponent(id)}`);
  $("details-title").textContent = image.id;
  strip($("details-strip"), image.extents, image.size,
    `${percent(image.bytes_on_disk, image.size)} on disk, in ${image.extents.length} pieces`);
  const facts = [["Size", `${bytes(image.size)} (${image.size} bytes)`],
    ["On disk", `${bytes(image.bytes_on_disk)}, ${percent(image.bytes_on_disk, image.size)}`],
    ["State", image.complete ? "complete and verified" : image.filling ? "being fetched" : "partial"],
    ["Digest", image.digest], ["Hits", image.hits], ["Last access", ago(image.last_access)],
    ["In the cache since", new Date(1000 * image.created).toLocaleString()],
    ["Pinned", image.pinned ? "yes" : "no"], ["Sources", image.sources], ["Rate", `${bytes(image.rate)}/s`],
    ["Readers", image.readers_list.map((reader) =>
      `at ${percent(reader.position - reader.start, reader.stop - reader.start)} of `
      + (reader.whole ? "the whole" : `${reader.start}–${reader.stop}`)).join("; ") || "none"],
    ["Extents", image.extents.map(([start, stop]) => `${start}–${stop}`).slice(0, 50).join(", ") || "none"]];
  $("details-facts").replaceChildren(...facts.flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
  $("details").showModal();
}

// ------------------------------------------------------------------ what the buttons do

const ACTIONS = {
  show: (id) => showDetails(id).catch((error) => say(error.message, true)),
  pin: (id) => act(`Image ${id} is pinned.`, () => ask(`/cache/images/${encodeURIComponent(id)}/pin`, { method: "PUT" })),
  unpin: (id) => act(`Image ${id} may be evicted again.`, () =>
    ask(`/cache/images/${encodeURIComponent(id)}/pin`, { method: "DELETE" })),
  verify: (id) => act("It is being verified.", () =>
    ask(`/cache/images/${encodeURIComponent(id)}/verify`, { method: "POST" })),
  fetch: (id) => act("It is queued.", () => ask("/cache/prefetch", { method: "POST", json: { images: [id] } })),
  purge: async (id) => {
    if (!await confirmed("Purge this image?", `${id} is dropped from this node's cache. The next download fetches `
      + "it from the origin again.", "Purge")) return;
    await act(`Image ${id} is purged.`, () => ask(`/cache/images/${encodeURIComponent(id)}`, { method: "DELETE" }));
  },
};

$("image-rows").addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) ACTIONS[button.dataset.do](button.closest("tr").dataset.id);
});

$("purge-all").addEventListener("click", async () => {
  if (await confirmed("Purge every image?", "Everything in this node's cache is dropped. Downloads that are "
    + "running are finished.", "Purge all")) {
    await act((result) => `${result.purged} images are purged.`, () => ask("/cache/images", { method: "DELETE" }));
  }
});
$("verify-all").addEventListener("click", async () => {
  if (await confirmed("Verify every image?", "Each complete body is read and hashed again.", "Verify all")) {
    await act((result) => `${result.total} images are queued.`, () => ask("/cache/verify", { method: "POST" }));
  }
});
$("clean").addEventListener("click", async () => {
  if (await confirmed("Clean up?", "Incomplete bodies that nobody reads or fetches, and files that belong to no "
    + "image, are removed.", "Clean up")) {
    await act((result) => `${result.files} files with ${bytes(result.bytes)} are removed.`,
      () => ask("/cache/clean", { method: "POST" }));
  }
});
$("cancel-queued").addEventListener("click", async () => {
  if (await confirmed("Cancel what waits?", "Jobs that have not begun are cancelled.", "Cancel them")) {
    await act((result) => `${result.cancelled} jobs are cancelled.`, () => ask("/cache/jobs", { method: "DELETE" }));
  }
});
$("prefetch").addEventListener("submit", (event) => {
  event.preventDefault();
  const images = $("prefetch-ids").value.split(/[\s,]+/).filter(Boolean);
  const priority = Number.parseInt($("prefetch-priority").value, 10) || 0;
  act((result) => `${result.jobs.length} images are queued.`, async () => {
    const result = await ask("/cache/prefetch", { method: "POST", json: { images, priority } });
    $("prefetch-ids").value = "";
    return result;
  });
});

for (const head of document.querySelectorAll("th[data-sort]")) {
  head.querySelector("button").addEventListener("click", () => {
    const field = head.dataset.sort;
    const first = field === "id" ? "asc" : "desc";
    const other = first === "asc" ? "desc" : "asc";
    sort = { field, order: sort.field === field && sort.order === first ? other : first };
    showSort();
    refresh();
  });
}

function showSort() {
  for (const head of document.querySelectorAll("th[data-sort]")) {
    if (head.dataset.sort === sort.field) {
      head.setAttribute("aria-sort", sort.order === "asc" ? "ascending" : "descending");
    } else head.removeAttribute("aria-sort");
  }
}

let typing;
$("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(refresh, 200); });
$("state").addEventListener("change", () => refresh());
$("pinned").addEventListener("change", () => refresh());
$("filter").addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
$("more").addEventListener("click", () => { limit = Math.min(1000, limit * 5); refresh(); });

function dress(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-pressed", `${theme === "dark"}`);
}
dress(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
$("theme").addEventListener("click", () =>
  dress(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

// ------------------------------------------------------------------ keeping up to date

let turn = 0;
let timer;
async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  const query = new URLSearchParams({ sort: `${sort.field}:${sort.order}`, limit: `${limit}` });
  if ($("search").value.trim()) query.set("q", $("search").value.trim());
  if ($("state").value) query.set("state", $("state").value);
  if ($("pinned").checked) query.set("pinned", "true");
  try {
    const [node, images, jobs, ready] = await Promise.all([
      ask("/cache"), ask(`/cache/images?${query}`), ask("/cache/jobs"),
      ask("/cache/ready").catch((error) => {
        if (error.status === 503) return { ready: false, checks: {} };
        throw error;
      }),
    ]);
    if (mine !== turn) return;
    drawNode(node, ready);
    drawImages(images);
    drawJobs(jobs);
    await Promise.all([drawFills(), drawStrips()]);
    if ($("notice").dataset.lost) { delete $("notice").dataset.lost; say(""); }
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === 401) { await askForToken(token ? "That token was not accepted." : ""); refresh(); return; }
    $("notice").dataset.lost = "yes";
    say(error instanceof Refused ? error.message : "The node cannot be reached.", true);
  }
  timer = setTimeout(refresh, document.hidden ? 5 * EVERY : EVERY);
}

async function follow() {
  // fetch rather than EventSource: that one cannot send a token.
  const badge = $("live");
  for (;;) {
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": lastEvent };
      const answer = await ask("/cache/events", { headers, stream: true });
      badge.textContent = "live";
      badge.className = "badge good";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split(/\r?\n\r?\n/);
        rest = blocks.pop();
        for (const block of blocks) {
          const lines = block.split(/\r?\n/);
          const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
          if (data.length) drawEvent(JSON.parse(data.join("\n")));
          for (const line of lines) if (line.startsWith("id:")) lastEvent = line.slice(3).trim();
        }
      }
    } catch (error) {
      if (error.status === 401) await askForToken("");
    }
    badge.textContent = "not connected";
    badge.className = "badge bad";
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
}

async function begin() {
  showSort();
  await refresh();
  try {
    for (const event of (await ask("/cache/events")).events.slice(-50)) { drawEvent(event); lastEvent = event.id; }
  } catch { /* follow tells */ }
  follow();
}
begin();
