import { type Journal, wasTouched } from './journal.ts';

/** What the step of the present state is about to read, change or reveal; audited before it begins. */
export function effectsOf(
  journal: Pick<Journal, 'state' | 'overlap' | 'history' | 'rollback'>,
): readonly string[] {
  switch (journal.state) {
    case 'REQUESTED':
      return ['secret.read'];
    case 'CLAIMED':
      return ['secret.read', 'admin.read', 'target.probe'];
    case 'PREFLIGHTED':
      return journal.rollback ? ['secret.read', 'candidate.stage'] : ['candidate.stage'];
    case 'APPLYING': {
      const apply = ['candidate.read', 'admin.read', 'target.apply'];
      return journal.overlap === 'none' ? [...apply, 'target.probe', 'secret.write'] : apply;
    }
    case 'APPLIED':
      return ['candidate.read', 'target.probe'];
    case 'PROMOTING':
      return ['candidate.read', 'secret.write'];
    case 'PROMOTED':
      return ['secret.read', 'target.probe'];
    case 'NOTIFIED':
      return ['candidate.drop'];
    case 'RETIRING':
      return ['secret.read', 'admin.read', 'target.probe', 'target.retire'];
    case 'ROLLING_BACK': {
      const restore = ['secret.read', 'admin.read', 'target.restore'];
      return wasTouched(journal) ? [...restore, 'candidate.drop'] : ['candidate.drop'];
    }
    default:
      return [];
  }
}
