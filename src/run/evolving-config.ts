import { CoveyError } from '../../protocol/errors.ts';
import { LIMITS } from '../../protocol/limits.ts';
import type { RunConfig } from './config.ts';

/**
 * Checks the rules of evolving clusters: probes one after the other within the run, room for a split.
 * @throws CoveyError USAGE_CONFIG with one line that names the field.
 */
export function checkEvolving({ clusters, cohort, privacy, training }: RunConfig): void {
  if (clusters === null) return;
  const require = (holds: boolean, line: string): void => {
    if (!holds) throw new CoveyError('USAGE_CONFIG', line);
  };
  const { choiceSteps, evolving, foundingSlots, kept, open } = clusters;
  if (evolving === undefined)
    throw new CoveyError('USAGE_CONFIG', '"clusters.evolving" expected its numbers with evolving assignment, got none');
  const { minMembers, most, probeSteps } = evolving;
  require(foundingSlots === 0 &&
    open === undefined, '"clusters.assignment" expected no founding and nothing open with evolving clusters');
  // A gap is a sum over records: a person with several would move it by several.
  require(privacy.perPerson !== true, '"privacy.perPerson" expected single records with evolving clusters');
  require(cohort.leastSurvivors ===
    undefined, '"cohort.leastSurvivors" expected a cohort that does not shrink with evolving clusters');
  require(most > kept &&
    most <= LIMITS.slots, `"clusters.evolving.most" expected ${kept + 1} to ${LIMITS.slots}, got ${most}`);
  require(2 * minMembers <=
    cohort.participants, `"clusters.evolving.minMembers" expected at most half of ${cohort.participants} participants, got ${minMembers}`);
  // Slots come and go by released counts: nobody is bound to one that a floor could keep closed.
  require(cohort.minCluster ===
    0, `"cohort.minCluster" expected 0 with evolving clusters (their floor is minMembers), got ${cohort.minCluster}`);
  const [first] = choiceSteps;
  require(first !== undefined &&
    first > 0, `"clusters.choiceSteps" expected a probe after the first step, got ${first ?? 'none'}`);
  choiceSteps.forEach((step, i) => {
    const end = choiceSteps[i + 1] ?? training.steps;
    require(step + probeSteps <=
      end, `"clusters.evolving.probeSteps" expected at most ${end - step} steps after step ${step}, got ${probeSteps}`);
  });
}
