import { type LineSeries, lineChart } from '../charts/line-chart.ts';
import { escapeMarkup } from '../charts/svg.ts';
import { announcedClip } from './clips.ts';
import {
  announcedDraws,
  announcedMechanism,
  announcedTolerance,
  announcesFloatTerms,
  protectsPersons,
} from './derive-events.ts';
import { evolutionRow } from './evolution.ts';
import type { ReportFacts, SessionFacts } from './facts.ts';
import { announcedLabels } from './labels.ts';
import { announcedLocalNoise, chargedQueries } from './local-noise.ts';
import type { ProtectedAccuracy } from './metrics.ts';
import { trustedTrainers } from './replay.ts';
import { REPORT_STYLE } from './report-style.ts';
import type { ResultRow } from './results.ts';

export const REPORT_FILE = 'report.html';

const BLUE = '#0b63a8';
const ORANGE = '#c2570c';

const esc = escapeMarkup;
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const epsilon = (value: number | null): string => (value === null ? '–' : value.toFixed(2));

/** 2025-01-02T03:04:05.678Z as 2025-01-02 03:04:05. */
function readableTime(time: string): string {
  return time.slice(0, 19).replace('T', ' ');
}

/** Order of names in which numbers inside of them count as numbers; the same on every platform. */
function compareNames(a: string, b: string): number {
  const key = (name: string): string => name.replace(/\d+/g, (digits) => digits.padStart(12, '0'));
  return key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;
}

function bytes(value: number | null): string {
  if (value === null) return '–';
  if (value < 1e3) return `${value} B`;
  return value < 1e6 ? `${(value / 1e3).toFixed(1)} kB` : `${(value / 1e6).toFixed(1)} MB`;
}

/** Rows of cells; cells of columns named in `numeric` are set to the right. */
function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  numeric: readonly number[] = [],
  real: readonly number[] = [],
): string {
  const cell = (tag: string, content: string, i: number): string =>
    `<${tag}${numeric.includes(i) ? ' class="n"' : ''}>${content}</${tag}>`;
  const line = (cells: readonly string[], row: number): string =>
    `<tr${real.includes(row) ? ' class="real"' : ''}>${cells.map((c, i) => cell('td', c, i)).join('')}</tr>`;
  const isNamed = head.some((name) => name !== '');
  const headLine = isNamed ? `<thead><tr>${head.map((c, i) => cell('th', c, i)).join('')}</tr></thead>` : '';
  return `<table>${headLine}<tbody>${rows.map(line).join('')}</tbody></table>`;
}

function statement({ history, results }: ReportFacts): string {
  const { plan } = history.open;
  const members = history.genesis.members.length;
  const one = protectsPersons(history.open.config) ? 'one person’s records at' : 'one record of';
  const unit = plan.unit === 'record' ? `${one} one organization` : 'everything one organization holds';
  const { server, release } = results.claims;
  const helpers =
    announcedLocalNoise(history.open) !== null
      ? 'all other organizations'
      : plan.colluders === 1
        ? 'one organization'
        : `${plan.colluders === 0 ? 'no' : plan.colluders} organizations`;
  return `<p class="lead">${members} organizations trained a model together. The coordinator received only sums over at least ${plan.minSurvivors} of them, to which the organizations themselves had added calibrated noise; no contribution was ever readable to it without that noise. Adding or removing ${unit} changes what the coordinator could observe by at most <b>ε = ${epsilon(server.epsilon)}</b> (δ = ${esc(plan.delta)}), ${plan.colluders === 0 && announcedLocalNoise(history.open) === null ? 'as long as' : 'even if'} ${helpers} pool what they know with it. For whoever sees the released models, a fellow organization included, it is <b>ε = ${epsilon(release.epsilon)}</b>. The budget was ε = ${esc(plan.targetEpsilon)}.</p>
<p class="soft">ε is a worst case over all observers: except with probability δ, seeing the outcome changes the odds of any statement about that ${plan.unit === 'record' ? 'record' : 'organization'} by a factor of at most e<sup>ε</sup>. Smaller is better, 0 would mean that nothing can be learned.</p>`;
}

/** The best accuracy that the run states, or released as a charged sum at its end. */
function bestAccuracy({ protectedAccuracies: released, results }: ReportFacts): readonly [string, string] {
  const real = results.table.filter((row) => !row.simulated);
  const best = real.reduce<ResultRow | null>((top, row) => (top === null || row.mean > top.mean ? row : top), null);
  if (best !== null) return [percent(best.mean), `mean accuracy, ${esc(best.name)}<br>on the organizations’ own tests`];
  const last = released.at(-1);
  if (last !== undefined)
    return [
      `${percent(last.mean)} ± ${percent(last.meanStddev)}`,
      'mean accuracy, released as a charged sum<br>on the organizations’ own tests',
    ];
  return ['–', results.table.length === 0 ? 'no accuracy was released' : 'no result'];
}

function tiles(facts: ReportFacts): string {
  const { history, results, sessions } = facts;
  const released = sessions.filter((session) => session.ended === 'released');
  const fewest = Math.min(...released.map((session) => session.survivors ?? 0));
  const items = [
    [epsilon(results.claims.server.epsilon), `ε, coordinator's view<br>budget ${esc(history.open.plan.targetEpsilon)}`],
    [epsilon(results.claims.release.epsilon), 'ε, view of the released models'],
    [`${released.length}`, `sums released, never fewer than ${released.length === 0 ? 0 : fewest} contributors`],
    bestAccuracy(facts),
  ];
  return `<div class="tiles">${items.map(([value, label]) => `<div class="tile"><b>${value}</b><span>${label}</span></div>`).join('')}</div>`;
}

function charts({ history, results, epsilonServer, epsilonRelease }: ReportFacts): string {
  const line = (points: ReportFacts['epsilonServer']): LineSeries['points'] =>
    points.map((point) => [point.round, point.epsilon]);
  const released = { name: 'released', color: ORANGE, dashed: true, points: line(epsilonRelease) };
  // With colluders assumed, both views lack the same number of shares and the lines are one.
  const same = epsilonServer.every((point, i) => point.epsilon === epsilonRelease[i]?.epsilon);
  const losses: LineSeries[] = same
    ? [{ name: 'both views', color: BLUE, points: line(epsilonServer) }]
    : [{ name: 'coordinator', color: BLUE, points: line(epsilonServer) }, released];
  const loss = lineChart({
    title: 'Epsilon over rounds, worst organization',
    xLabel: 'Round',
    yLabel: 'ε spent so far',
    limit: { value: Number(history.open.plan.targetEpsilon), label: `budget ${history.open.plan.targetEpsilon}` },
    formatY: (value) => String(value),
    series: losses,
  });
  const accuracy = lineChart({
    title: 'Accuracy over training steps',
    xLabel: 'Training step',
    yLabel: 'Accuracy',
    formatY: (value) => `${Math.round(100 * value)} %`,
    series: [
      {
        name: 'mean',
        color: BLUE,
        points: results.accuracyOverRounds.map(({ round, mean }) => [round, mean] as const),
      },
      {
        name: 'worst',
        color: ORANGE,
        points: results.accuracyOverRounds.map(({ round, worst }) => [round, worst] as const),
      },
    ],
  });
  const second =
    results.accuracyOverRounds.length === 0
      ? ''
      : `<figure>${accuracy}<figcaption>Accuracy of the released models on the organizations’ own test records: mean and worst organization.</figcaption></figure>`;
  return `<h2>Privacy and accuracy over the rounds</h2><figure>${loss}<figcaption>Recomputed from the charges in the signed log, for the organization with the largest loss. The run stops before the round in which the coordinator’s view would cross the dashed line.</figcaption></figure>${second}`;
}

function comparison({ results }: ReportFacts): string {
  const row = ({ name, mean, worst, epsilonServer, epsilonRelease, bytesUp, simulated }: ResultRow): string[] => [
    `${esc(name)}${simulated ? '<span class="tag">simulated for comparison</span>' : ''}`,
    percent(mean),
    percent(worst),
    epsilon(epsilonServer),
    epsilon(epsilonRelease),
    bytes(bytesUp),
  ];
  const real = results.table.flatMap(({ simulated }, i) => (simulated ? [] : [i]));
  const head = ['', 'Mean', 'Worst', 'ε coordinator', 'ε released', 'Sent per member'];
  const note = results.note === '' ? '' : `<p class="soft">${esc(results.note)}</p>`;
  if (results.table.length === 0) return note;
  return `<h2>What training together brought</h2>${table(head, results.table.map(row), [1, 2, 3, 4, 5], real)}${note}`;
}

/** Accuracies that the run released itself, as charged sums; nothing in a run without metrics. */
function protectedAccuracy({ history, protectedAccuracies: measured }: ReportFacts): string {
  const last = measured.at(-1);
  if (last === undefined) return '';
  const line = (name: string, color: string, of: (accuracy: ProtectedAccuracy) => number): LineSeries => ({
    name,
    color,
    points: measured.map((accuracy) => [accuracy.step + 1, of(accuracy)]),
  });
  const chart = lineChart({
    title: 'Protected accuracy over training steps',
    xLabel: 'Training step',
    yLabel: 'Accuracy',
    formatY: (value) => `${Math.round(100 * value)} %`,
    series: [line('mean', BLUE, ({ mean }) => mean), line('worst tenth', ORANGE, ({ worstTenth }) => worstTenth)],
  });
  const rows = measured.map(({ step, members, mean, meanStddev, stddev, worstTenth }) => [
    String(step + 1),
    String(members),
    `${percent(mean)} ± ${percent(meanStddev)}`,
    percent(stddev),
    percent(worstTenth),
  ]);
  const moves = history.open.plan.unit === 'record' ? 'a record moves its one to another bin' : 'it adds a single one';
  return `<h2>Protected accuracy</h2><figure>${chart}<figcaption>Estimated from noisy histograms of the organizations’ accuracies on their own test records, summed and charged like everything else (${moves}).</figcaption></figure>${table(['After step', 'In the sum', 'Mean (± noise)', 'Deviation over organizations', 'Worst tenth'], rows, [0, 1, 2, 3, 4])}`;
}

/** While slots are founded each one sums a single organization; the report says so. */
function foundingNote({ history }: ReportFacts): string {
  const members = history.genesis.members.length;
  const founding = history.sessions.filter(
    ({ kind, params, release }) =>
      release !== undefined && kind === 'train' && params.slots > 1 && params.slots >= members,
  );
  const [first, last] = [founding[0], founding.at(-1)];
  if (first === undefined || last === undefined) return '';
  const rounds =
    first.params.round === last.params.round
      ? `round ${first.params.round}`
      : `rounds ${first.params.round} to ${last.params.round}`;
  return `<p><b>Named openly:</b> in ${rounds} the slots were founded, and each slot summed one organization whose name stayed hidden. There the noise alone protects its records (ε counts it in full); a slot that falls silent when an organization drops out can be linked to it. ε speaks about records, not about which slot an organization belongs to.</p>`;
}

/** Clusters in the open say who belongs together: a leak that no noise covers. */
function openNote({ history }: ReportFacts): string {
  const { open } = (history.open.config['clusters'] ?? {}) as { readonly open?: readonly (readonly string[])[] };
  if (open === undefined) return '';
  const clusters = open.map((names) => names.map(esc).join(', ')).join('; ');
  return `<p><b>Named openly:</b> which organization is in which cluster: ${clusters}. Whoever knows what some members of a cluster have in common learns it about the others; ε does not cover that. Measured on 539 writers: two clusters that IFCA found told which of two populations a writer is from in 72 % of the cases (the larger one has 54 %). Hidden slots do not tell it.</p>`;
}

/** Pairs of rounds that are listed one by one; more are counted. */
const LISTED_PAIRS = 5;

/** The difference of two sums over almost the same members is a sum over a few; the report says which noise covers it. */
function differencingNote({ closeReleases, history }: ReportFacts): string {
  if (closeReleases.length === 0) return '';
  const listed = closeReleases
    .slice(0, LISTED_PAIRS)
    .map(({ group, rounds, differing }) => {
      const where = group === 'all' ? '' : ` of ${esc(group)}`;
      return `rounds ${rounds[0]} and ${rounds[1]}${where} by ${differing} ${differing === 1 ? 'member' : 'members'}`;
    })
    .join('; ');
  const more = closeReleases.length > LISTED_PAIRS ? `; and ${closeReleases.length - LISTED_PAIRS} more pairs` : '';
  return `<p><b>Differencing:</b> the survivors of consecutive releases differed by fewer than the ${history.open.plan.minSurvivors} members that a sum needs: ${listed}${more}. What the difference of two such sums tells is limited by the noise in both alone, and ε counts it in full.</p>`;
}

function seen(facts: ReportFacts): string {
  const { results } = facts;
  const rows = results.clusters.map(({ slot, noisyCount, line }) => [String(slot), noisyCount.toFixed(1), esc(line)]);
  const clusters =
    rows.length === 0
      ? '<p>No counts of slots were released.</p>'
      : table(['Slot', 'Noisy members', 'What the coordinator could see of it'], rows, [1]);
  return `<h2>What the coordinator saw, and what it could not</h2>${clusters}
<p><b>Seen:</b> who took part in which round, when and with how many bytes (the same for everybody); per round one noisy sum for each slot; the models and counts that follow from it.</p>
<p><b>Not seen:</b> any organization’s own contribution, which slot an organization trained, its records, how many it has, how many were drawn in a round, its losses, its personal model.</p>
${foundingNote(facts)}${openNote(facts)}${differencingNote(facts)}`;
}

/** The clip of a run that adapts it; nothing for a fixed one. */
function clipRow({ open, sessions }: ReportFacts['history']): string[][] {
  const adaptive = announcedClip(open);
  const last = sessions.findLast(({ kind, release }) => kind === 'train' && release !== undefined);
  if (adaptive === null || last === undefined) return [];
  const text = `follows the ${adaptive.quantile} quantile of the norms of the updates by a noisy count in every step, charged within it: ${adaptive.firstNorm.toPrecision(3)} in the first step, ${last.params.encoding.clippingNorm.toPrecision(3)} in the last`;
  return [['Clipping norm', text]];
}

/** Label counts that were summed before the first step; nothing where none were. */
function labelsRow(open: ReportFacts['history']['open']): string[][] {
  const labels = announcedLabels(open);
  if (labels === null) return [];
  const text = `records of each of ${labels.classes} classes, summed once over all organizations before the first step under noise of ${labels.noiseStddev} records in each and charged by themselves`;
  return [['Label counts', text]];
}

function parameters({ history }: ReportFacts): string {
  const { config, plan } = history.open;
  const draws = announcedDraws(config);
  const law = announcedMechanism(config) === 'skellam' ? 'Skellam' : 'discrete Gaussian';
  const isLocal = announcedLocalNoise(history.open) !== null;
  const tolerance = announcedTolerance(config);
  const lossOf =
    plan.unit === 'record'
      ? protectsPersons(config)
        ? 'one person with all rows at one organization: drawn, summed and clipped together'
        : 'one record (one row); who owns several rows is protected less'
      : 'one organization with all its records';
  const rows = [
    ['Unit of privacy', lossOf],
    ['Neighbouring relation', esc(plan.relation)],
    ['Target', `ε = ${esc(plan.targetEpsilon)} at δ = ${esc(plan.delta)}, coordinator’s view`],
    [
      'Mechanism',
      isLocal
        ? `${law} noise inside every organization, in each local gradient; it protects against all others, and nobody outside can check it`
        : `${law} noise, a share from every organization, summed under secure aggregation`,
    ],
    [
      'Noise',
      isLocal
        ? `noise multiplier ${Number(plan.noiseMultiplier).toFixed(3)} in each of ${chargedQueries(history)} gradients a step: variance ${Number(plan.shareVariance).toExponential(3)} at sensitivity ${Number(plan.sensitivity)} (integer units)`
        : `noise multiplier ${Number(plan.noiseMultiplier).toFixed(3)} with the fewest accepted survivors; each share has variance ${Number(plan.shareVariance).toExponential(3)} at sensitivity ${Number(plan.sensitivity)} (integer units)`,
    ],
    ...(tolerance === null
      ? []
      : [
          [
            'Noise after dropouts',
            `exact for whoever survives a training step, up to ${esc(String(tolerance))} lost: what full attendance makes superfluous is taken off again`,
          ],
        ]),
    [
      'Record sampling',
      plan.unit === 'record'
        ? `each record joins a ${isLocal ? 'gradient' : 'step'} with probability ${esc(plan.samplingProbability)}, drawn in secret inside its organization`
        : 'none: every organization sends one clipped update a step',
    ],
    ...(announcesFloatTerms(history.open.config)
      ? [
          [
            'Sums of records',
            'float-bounded: clipped gradients are cut to integers, summed exactly and rounded once, all together; the sensitivity holds a bound on what floats err',
          ],
        ]
      : []),
    ...clipRow(history),
    ...labelsRow(history.open),
    ...evolutionRow(history),
    [
      'Steps and choices',
      plan.unit === 'record'
        ? `${plan.rounds} training steps; ${plan.choices} private choices of ${draws === 1 ? 'a slot' : `${draws} slots`} at ε = ${esc(plan.choiceEpsilon)} ${draws === 1 ? 'each' : 'a slot'}`
        : `${plan.rounds} training steps; ${plan.choices} choices of a slot, hidden in the slots, their noisy counts charged`,
    ],
    [
      'Survivors',
      `at least ${plan.minSurvivors} of ${history.genesis.members.length}; noise of ${plan.colluders} assumed colluders does not count`,
    ],
  ];
  return `<h2>Parameters</h2>${table(
    ['', ''],
    rows.map(([name, value]) => [`<b>${name}</b>`, value as string]),
  )}`;
}

const KIND_TEXTS: Readonly<Record<string, string>> = {
  seats: 'seat lottery',
  choice: 'choice of a slot',
  train: 'training step',
  metrics: 'accuracies',
};

/** Runs of rounds that went the same way, as one row. */
function cohortRows(sessions: readonly SessionFacts[]): string[][] {
  const groups: { first: SessionFacts; last: SessionFacts; sessions: number }[] = [];
  const same = (a: SessionFacts, b: SessionFacts): boolean =>
    a.ended === 'released' &&
    b.ended === 'released' &&
    a.kind === b.kind &&
    a.invited === b.invited &&
    a.survivors === b.survivors;
  for (const session of sessions) {
    const group = groups.at(-1);
    if (group !== undefined && same(group.last, session)) {
      group.last = session;
      group.sessions += 1;
    } else groups.push({ first: session, last: session, sessions: 1 });
  }
  return groups.map(({ first, last, sessions: count }) => {
    const rounds =
      count === 1
        ? `${first.round}${first.attempt > 0 ? ` (attempt ${first.attempt + 1})` : ''}`
        : `${first.round}–${last.round}`;
    const end =
      first.ended === 'released'
        ? 'released'
        : `${first.ended}${first.phase === null ? '' : ` in ${esc(first.phase)}: ${esc(first.reason ?? '')}`}${first.charged ? ' (charged)' : ''}`;
    return [
      rounds,
      KIND_TEXTS[first.kind] ?? esc(first.kind),
      String(first.invited),
      first.survivors === null ? '–' : String(first.survivors),
      first.threshold === null ? '–' : String(first.threshold),
      end,
    ];
  });
}

function cohorts({ history, results, sessions }: ReportFacts): string {
  const lost = results.lost.map(
    ({ organization, round, phase }) =>
      `<li>${esc(organization)} was lost in training step ${round}, ${esc(phase.replaceAll('-', ' '))}. Later sums are charged for the noise of those who stayed.</li>`,
  );
  const nameOf = (id: string): string => history.genesis.members.find((member) => member.id === id)?.organization ?? id;
  const left = [...history.leaves].map(
    ([id, { body }]) =>
      `<li>${esc(nameOf(id))} left before ${KIND_TEXTS[body.kind] ?? esc(body.kind)} ${body.step + 1}: ${esc(body.reason)} (${esc(body.code)}). It depends on charges alone, never on data; the others went on.</li>`,
  );
  const items = [...lost, ...left];
  const list = items.length === 0 ? '' : `<ul>${items.join('')}</ul>`;
  return `<h2>Cohorts, dropouts and aborted rounds</h2>${table(['Rounds', 'Purpose', 'Invited', 'In the sum', 'Threshold', 'Outcome'], cohortRows(sessions), [2, 3, 4])}${list}`;
}

function participants({ history, results }: ReportFacts): string {
  const trusted = trustedTrainers(history);
  const members = [...history.genesis.members].sort((a, b) => compareNames(a.organization, b.organization));
  const rows = members.map(({ id, organization }) => {
    const claim = results.claims.perParticipant[id];
    const rounds = history.sessions.filter((session) => session.charge?.body.survivors.includes(id)).length;
    return [
      `${esc(organization)}${trusted.has(id) ? ' *' : ''}`,
      `<code>${id.slice(0, 16)}</code>`,
      String(rounds),
      epsilon(claim?.server ?? null),
      epsilon(claim?.release ?? null),
    ];
  });
  return `<h2>Each organization</h2>${table(['Organization', 'Node', 'Sums joined', 'ε coordinator', 'ε released'], rows, [2, 3, 4])}${trusted.size === 0 ? '' : '<p class="soft">* trains with a program of its own (trusted trainer): that each of its rows depends on one record alone rests on that program.</p>'}`;
}

/** What the name of a path stands for. */
function pathText(path: string, hasSlots: boolean): string {
  const [name, cluster] = path.split('-');
  if (name === 'cluster') return `model of open cluster ${cluster}`;
  const texts: Readonly<Record<string, string>> = {
    body: 'shared layers',
    slots: hasSlots ? 'hidden slots, all together' : 'last layers of the one model',
    extra: 'sums of the algorithm beside the models',
    'clip-count': 'count of updates within the clip',
    selection: 'choice of a slot',
    metrics: 'accuracies',
    labels: 'counts of classes',
    personal: 'personal models: they never leave their organization',
  };
  return texts[path] ?? path;
}

function paths({ history, pathLosses }: ReportFacts): string {
  const hasSlots = history.sessions.some(({ params }) => params.slots > 1);
  const rows = pathLosses.map(({ path, epsilon: { server, release } }) => [
    `<code>${esc(path)}</code>`,
    esc(pathText(path, hasSlots)),
    epsilon(server),
    epsilon(release),
  ]);
  return `<h2>Each part of the releases</h2>${table(['Path', 'What it is', 'ε coordinator', 'ε released'], rows, [2, 3])}
<p class="soft">What the events of each part cost the organization that pays most for it, given everything else that was released. Parts follow from each other (shared layers from the choice of slots, accuracies from the models), so a row is no bound for somebody who reads that part alone; the total is one for every reader. Parts of one vector share one clip and one noise: each may hold all that the event of the vector bounds, so it is shown with each of them and counted once in the total. The total composes all events; it is not the sum of these rows.</p>`;
}

function trust({ history }: ReportFacts): string {
  const { colluders } = history.open.plan;
  const rows = [
    [
      'The coordinator, curious or malicious',
      `aggregates and who took part; with up to ${colluders} organizations also their inputs and noise`,
      'ε coordinator',
    ],
    ['Fellow organizations, users of the models', 'the released models and their own share of the noise', 'ε released'],
    ['Staff of the own organization', 'its own records: nothing here protects against them', 'none'],
    ['Who gets an organization’s personal model', 'a model that was tuned on its records without noise', 'none'],
  ];
  return `<h2>Whom one has to trust, and for what</h2>${table(['Who', 'Sees', 'Protected by'], rows)}
<ul>
<li>At most ${colluders} organizations collude with the coordinator, leave out their noise, or do both.</li>
<li>Every organization runs the published program: clips each record, draws its sample and its noise from a secure generator. Nobody else can check this from outside.</li>
<li>No person appears ${protectsPersons(history.open.config) ? '' : 'in more than one record and '}in more than one organization; otherwise the loss adds up.</li>
<li>The keys in the roster belong to the named organizations; elliptic-curve cryptography holds (it does not against a large quantum computer).</li>
<li>Poisoned data is not detected. Times, message sizes and participation are visible.</li>
</ul>`;
}

function verification({ history, logEntries, logRoot }: ReportFacts): string {
  return `<h2>How to check this report</h2>
<p>Every statement above follows from the signed log and the results beside it. With the folder that holds this file:</p>
<pre><code>covey audit verify &lt;folder&gt; --key ${esc(history.genesis.coordinatorKey)}</code></pre>
<p>It recomputes all hashes and signatures, replays the order of charges and releases, recomposes every epsilon with two accountants and renders this page again, byte for byte. Compare the key with the one you were given by another way.</p>
${table(
  ['', ''],
  [
    ['<b>Log</b>', `${logEntries} entries, RFC 6962 root<br><code>${logRoot}</code>`],
    ['<b>Configuration</b>', `<code>${esc(history.open.taskHash)}</code>`],
    ['<b>Roster</b>', `version ${history.genesis.rosterVersion}, <code>${esc(history.genesis.rosterHash)}</code>`],
  ],
)}`;
}

/**
 * Renders the report: one self-contained HTML page without scripts and network, the same bytes for the same facts.
 */
export function renderReport(facts: ReportFacts): string {
  const { history } = facts;
  const sections = [
    statement,
    tiles,
    charts,
    protectedAccuracy,
    comparison,
    seen,
    parameters,
    cohorts,
    participants,
    paths,
    trust,
    verification,
  ];
  const incidents = history.incidents.map(({ body }) => `<li><b>${esc(body.kind)}</b>: ${esc(body.detail)}</li>`);
  const incidentList = incidents.length === 0 ? '' : `<h2>Incidents</h2><ul>${incidents.join('')}</ul>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Privacy report: ${esc(history.federation)}</title>
<style>${REPORT_STYLE}</style>
</head>
<body>
<main>
<header><h1>Privacy report</h1><div class="meta">Federation <b>${esc(history.federation)}</b> · run <code>${esc(history.run)}</code> · ${esc(readableTime(history.firstTime))} to ${esc(readableTime(history.lastTime))} UTC</div></header>
${sections.map((section) => section(facts)).join('\n')}
${incidentList}
<footer class="soft">Generated from the signed log of the run. Differential privacy bounds what can be learned about a unit; it does not promise that nothing is learned.</footer>
</main>
</body>
</html>
`;
}
