import { fromUtf8 } from '../../protocol/bytes.ts';
import { HEART_FEATURES, HEART_HOSPITALS, parseHeart, parseTestRows } from '../../src/data/heart.ts';
import { pooledMoments, standardize } from '../../src/data/scaling.ts';
import type { ScenarioParticipant } from '../../src/data/scenario.ts';
import { type KnownFile, readKnownFile } from './data-source.ts';
import { KNOWN_FILES } from './known-files.ts';
import { defineScenario, type Scenario } from './scenario-type.ts';

/** Files in the order of `HEART_HOSPITALS`. */
const FILES = [
  KNOWN_FILES.heartCleveland,
  KNOWN_FILES.heartHungarian,
  KNOWN_FILES.heartSwitzerland,
  KNOWN_FILES.heartVa,
] as const;

/** UCI Heart Disease at four hospitals, with the test rows that FLamby publishes. The seed changes nothing. */
export const heartScenario: Scenario = defineScenario({
  id: 'heart-4',
  title: 'Heart disease at four hospitals',
  about:
    'UCI Heart Disease: Cleveland, Hungarian, Switzerland, VA Long Beach; 740 patients, 13 features, sick or not; the ' +
    'published split of FLamby (training/test 199/104, 172/89, 30/16, 85/45). Record-level privacy: with four ' +
    'participants the unit cannot be the participant.',
  licence: 'CC BY 4.0 (Detrano et al., UCI Machine Learning Repository)',
  folders: ['uci-heart'],
  options: {
    // Moments of all training records, or of the hospital's own: no record-level claim holds for either. Published results
    // on this split agree with `standardized-own`.
    scaling: { kind: 'choice', byDefault: 'declared', of: ['declared', 'standardized', 'standardized-own', 'none'] },
  },
  async build(_seed, { scaling }, source) {
    const testRows = parseTestRows(fromUtf8(await readKnownFile(source, KNOWN_FILES.heartSplit)));
    const participants: ScenarioParticipant[] = [];
    for (const [hospital, { name }] of HEART_HOSPITALS.entries()) {
      const text = fromUtf8(await readKnownFile(source, FILES[hospital] as KnownFile));
      const split = parseHeart(hospital, text, testRows[hospital], scaling === 'declared' ? 'declared' : 'none');
      participants.push({ name, ...split });
    }
    const pooled = scaling === 'standardized' ? pooledMoments(participants.map(({ train }) => train)) : null;
    return {
      participants: participants.map((participant) => {
        const own = scaling === 'standardized-own' ? pooledMoments([participant.train]) : null;
        const moments = pooled ?? own;
        if (moments === null) return participant;
        const { train, test } = participant;
        return { ...participant, train: standardize(train, moments), test: standardize(test, moments) };
      }),
      model: { inputs: HEART_FEATURES, hidden: [], classes: 2 },
      recordRule: pooled === null && scaling !== 'standardized-own',
      ...(scaling === 'standardized-own' ? { participantRule: true } : {}),
    };
  },
});
