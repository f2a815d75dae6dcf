"""The refinement's jobs: where it begins, what it selects, and what it does with what went wrong."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT

from godelta.analysis.duplicates import distinct, group
from godelta.campaign import CampaignConfig
from godelta.makers.evaluate import run_evaluate
from godelta.makers.refine import run_refine
from godelta.makers.retrain import run_retrain
from godelta.makers.session import StopRequestedError
from godelta.reference.isolated import Outcome
from godelta.reference.process import Cost
from godelta.search.settings import REFINEMENT
from godelta.store import campaigns, evaluations, models, rounds, structures
from godelta.store.documents import REFINEMENT_CHAIN, RoundKey, StructureDocument
from godelta.store.stopping import end_of_refinement
from godelta.workflows.planner import open_refinement
from godelta.workflows.submit import register

FEW = {
    "search": {"selection": {"evaluations_per_round": 4}},
    "budget": {"rounds": 1, "evaluations": 4},
    "refine": {"best": 2, "fmax": 0.1, "evaluations": 40},
}


@dataclass
class Campaign:
    """A campaign whose search is over, to be refined in this process."""

    session: object
    campaign_id: str
    values: dict

    @property
    def store(self):
        return self.session.store

    @property
    def config(self):
        return CampaignConfig.model_validate(campaigns.get_campaign(self.store, self.campaign_id).config)

    @property
    def document(self):
        return campaigns.get_campaign(self.store, self.campaign_id)

    def begin_round(self, session=None):
        """Open a round and choose its steps; its key, None where there is nothing to refine."""
        round_ = open_refinement(self.store, self.campaign_id, self.config)
        if round_ is None:
            return None
        run_refine(session or self.session, round_.key, round_.epoch)
        return round_.key

    def finish_round(self, key, slots=None):
        """Evaluate what was selected, as the round's workflow does, and close the round."""
        for slot in range(self.config.refine.best if slots is None else slots):
            run_evaluate(self.session, key, 0, slot)
        run_retrain(self.session, key, 0)

    def refine(self, most=100):
        """Do rounds, to the end of the refinement or so many; the tracks as they were told last."""
        for _ in range(most):
            if (key := self.begin_round()) is None:
                break
            self.finish_round(key)
        return self.tracks()

    def rounds(self):
        return rounds.rounds_of(self.store, self.campaign_id, REFINEMENT_CHAIN)

    def tracks(self):
        return self.rounds()[-1].statistics[REFINEMENT]["tracks"]

    def again(self, **changes):
        """Give the campaign again, with other values of what may change."""
        self.values |= changes
        register(self.store, CampaignConfig.model_validate(self.values), Path())

    def evaluated(self):
        """Structures of the search and their energies in eV, the lowest first."""
        level = self.document.reference_hash
        pairs = evaluations.training_set(self.store, self.campaign_id, level)
        found = [(s, e.energy) for s, e in pairs if s.chain != REFINEMENT_CHAIN]
        return sorted(found, key=lambda pair: pair[1])

    def steps(self):
        """Hashes of what each round of the refinement has selected."""
        return [
            [structures.get_structure(self.store, i).structure_hash for i in round_.selection]
            for round_ in self.rounds()
        ]

    def is_paid_once(self):
        """Whether every selected structure was computed once, and paid for."""
        attempts = [len(raw["attempts"]) for raw in self.store.evaluations.find({"state": "ok"})]
        return set(attempts) == {1} and self.document.spent == len(attempts)


@pytest.fixture
def broken(tmp_path):
    """The reference is broken while this file is there."""
    return tmp_path / "broken"


@pytest.fixture(autouse=True)
def _quick(monkeypatch, broken):
    """Evaluations in this process: EMT takes a millisecond, and a process of its own half a second."""

    def evaluate(atoms, settings, scratch, **more):
        if broken.exists():
            message = "the licence server does not answer"
            return Outcome("failed", reason="engine_error", message=message, cost=Cost(cpu_s=1.0))
        atoms.calc = EMT()
        return Outcome("ok", atoms.get_potential_energy(), atoms.get_forces(), cost=Cost(cpu_s=1.0))

    monkeypatch.setattr("godelta.makers.evaluate.evaluate_isolated", evaluate)


@pytest.fixture
def searched(session, begin, run_round, cheap):
    """Do the search of a campaign."""

    def make(name="cheap", **changes):
        values = cheap(name=name, **(FEW | changes))
        first = begin(**values)
        for chain in range(values["budget"].get("chains", 1)):
            run_round(RoundKey(first.campaign_id, chain, 0))
        return Campaign(session, first.campaign_id, values)

    return make


def turned(document):
    """The structure, turned about z around the middle of its cell."""
    atoms = document.atoms()
    atoms.rotate(90, "z", center=atoms.cell.sum(axis=0) / 2)
    return atoms


def test_it_begins_from_the_lowest_different_structures(searched, session):
    campaign = searched()
    (lowest, _), (second, _), *_ = campaign.evaluated()
    key = RoundKey(campaign.campaign_id, 0, 1)
    copy = StructureDocument.from_atoms(
        turned(lowest),
        campaign_id=campaign.campaign_id,
        chain=0,
        round=1,
        foundation_energy=0.0,
        model_energy=0.0,
        candidate_id="copy",
    )
    rounds.plan_round(session.store, key, None)
    structures.add_candidates(session.store, [copy])
    rounds.change_state(session.store, key, 0, "planned", "searching")
    rounds.change_state(session.store, key, 0, "searching", "selected", selection=[copy.structure_id])
    assert run_evaluate(session, key, 0, 0) == "ok"
    run_retrain(session, key, 0)
    twins = {lowest.structure_id, copy.structure_id}
    assert {document.structure_id for document, _ in campaign.evaluated()[:2]} == twins
    campaign.begin_round()
    first, other = (track["start"] for track in campaign.tracks())
    assert first in twins
    assert other == second.structure_id


def test_the_steps_are_selected_and_told(searched, session):
    campaign = searched()
    starts = [document for document, _ in campaign.evaluated()[:2]]
    key = campaign.begin_round()
    round_ = rounds.get_round(session.store, key)
    assert round_.state == "selected"
    assert round_.model_id is not None
    chosen = [structures.get_structure(session.store, i) for i in round_.selection]
    assert [(c.chain, c.round, c.move) for c in chosen] == [(REFINEMENT_CHAIN, 0, REFINEMENT)] * 2
    assert [c.parents for c in chosen] == [(start.candidate_id,) for start in starts]
    assert {c.model_id for c in chosen} == {round_.model_id}
    told = round_.statistics[REFINEMENT]
    assert told["running"] == 2
    assert told["asked"] == campaign.config.refine.model_dump(mode="json")
    assert [track["at"] for track in told["tracks"]] == [start.structure_id for start in starts]
    assert run_refine(session, key, 0) == {"status": "done before"}
    assert run_refine(session, key, 1) == {"status": "done before"}
    assert rounds.get_round(session.store, key) == round_


def test_it_ends_in_minima_of_the_reference(searched):
    campaign = searched()
    found = campaign.refine()
    assert {track["status"] for track in found} == {"converged"}
    assert all(track["fmax"] <= 0.1 for track in found)
    assert campaign.is_paid_once()
    level = campaign.document.reference_hash
    for track in found:
        end = structures.get_structure(campaign.store, track["at"])
        evaluation = evaluations.get_evaluation(campaign.store, end.structure_hash, level)
        assert evaluation.energy == track["energy"]
        assert np.linalg.norm(evaluation.forces, axis=1).max() == pytest.approx(track["fmax"])
    assert end_of_refinement(campaign.store, campaign.campaign_id, campaign.config, campaign.rounds()[-1])
    assert campaign.begin_round() is None


@dataclass
class StopAt:
    """Asks for a stop at the n-th look, and at every one after it."""

    n: int
    looks: int = 0

    def __call__(self):
        self.looks += 1
        return self.looks >= self.n


def damage(store, key):
    """Take the saved state of a round away."""
    blob = rounds.get_round(store, key).search_state
    assert blob is not None
    store.db["blobs.chunks"].delete_many({"files_id": blob})


@pytest.mark.parametrize("loses_its_state", [False, True])
def test_a_round_that_was_stopped_selects_the_same(searched, session, loses_its_state):
    whole, stopped = searched("whole"), searched("stopped")
    whole.refine(1)
    stopped.refine(1)
    assert stopped.steps() == whole.steps()
    whole.begin_round()
    for n in (1, 2, 9):
        with pytest.raises(StopRequestedError):
            stopped.begin_round(replace(session, should_stop=StopAt(n)))
        if loses_its_state:
            damage(session.store, stopped.rounds()[-1].key)
    stopped.begin_round()
    assert len(stopped.rounds()) == 2
    assert stopped.steps() == whole.steps()
    states = [rounds.load_search_state(session.store, one.rounds()[-1].key) for one in (stopped, whole)]
    assert states[0] == states[1]


def test_one_whose_state_is_lost_goes_on_from_the_lowest_there_is(searched):
    campaign = searched()
    campaign.refine(2)
    paid = campaign.document.spent
    level = campaign.document.reference_hash
    best = structures.best(campaign.store, campaign.campaign_id, level)[0]
    assert best["chain"] == REFINEMENT_CHAIN
    damage(campaign.store, campaign.rounds()[-1].key)
    campaign.begin_round()
    assert best["structure_id"] in [track["start"] for track in campaign.tracks()]
    assert campaign.document.spent == paid
    campaign.finish_round(campaign.rounds()[-1].key)
    found = campaign.refine()
    assert {track["status"] for track in found} == {"converged"}
    assert campaign.is_paid_once()


def test_more_structures_are_asked_for_when_it_has_ended(searched):
    campaign = searched()
    before = {track["start"]: track for track in campaign.refine()}
    paid = campaign.document.spent
    campaign.again(refine={"best": 4, "fmax": 0.1, "evaluations": 40})
    after = {track["start"]: track for track in campaign.refine()}
    assert len(after) > len(before) == 2
    assert before.items() <= after.items()
    assert campaign.document.spent > paid
    kinds = group([document.atoms() for document, _ in campaign.evaluated()], np.zeros(4))
    assert len(after) <= len(set(kinds.tolist()))
    ends = [structures.get_structure(campaign.store, track["at"]).atoms() for track in after.values()]
    lowest = sorted(zip([t["energy"] for t in after.values()], ends, strict=True), key=lambda pair: pair[0])
    assert distinct([atoms for _, atoms in lowest], 4)[0] == 0
    assert campaign.is_paid_once()


@pytest.mark.parametrize("best", [1, 3])
def test_another_number_is_asked_for_while_its_steps_are_evaluated(searched, best):
    """The round's workflow has slots for another number than it has selected."""
    campaign = searched()
    old, new = (2, 1) if best == 1 else (1, 3)
    campaign.again(refine={"best": max(old, new), "fmax": 0.1, "evaluations": 40})
    key = campaign.begin_round()
    assert len(campaign.rounds()[0].selection) == max(old, new)
    campaign.again(refine={"best": new, "fmax": 0.1, "evaluations": 40})
    campaign.finish_round(key, slots=min(old, new))
    (left, *_) = campaign.steps()[0][min(old, new) :]
    campaign.refine(1)
    assert left in campaign.steps()[1]  # it was no failure
    assert len(campaign.steps()[1]) <= new
    found = campaign.refine()
    assert {track["status"] for track in found} == {"converged"}
    assert all(len(selection) <= new for selection in campaign.steps()[1:])
    assert campaign.is_paid_once()


def test_none_are_asked_for_while_it_refines(searched):
    campaign = searched()
    campaign.refine(1)
    key = campaign.begin_round()
    campaign.again(refine={"best": 0})
    campaign.finish_round(key, slots=0)
    assert campaign.begin_round() is None
    campaign.again(refine=FEW["refine"])
    assert {track["status"] for track in campaign.refine()} == {"converged"}
    assert campaign.is_paid_once()


def test_smaller_forces_are_asked_for(searched):
    campaign = searched()
    first = campaign.refine()
    before = campaign.document.spent
    campaign.again(refine={"best": 2, "fmax": 0.02, "evaluations": 60})
    second = campaign.refine()
    assert [track["start"] for track in second[:2]] == [track["start"] for track in first]
    assert all(track["fmax"] <= 0.02 for track in second)
    assert {track["status"] for track in second} == {"converged"}
    assert campaign.document.spent > before
    campaign.again(refine={"best": 2, "fmax": 0.5, "evaluations": 60})
    paid = campaign.document.spent
    assert campaign.refine() == second
    assert campaign.document.spent == paid


def test_three_failures_in_a_row_end_it(searched, broken):
    campaign = searched(refine={"best": 1, "fmax": 0.1, "evaluations": 40})
    start = campaign.evaluated()[0][0]
    broken.touch()
    (track,) = campaign.refine()
    assert (track["status"], track["evaluations"]) == ("failed", 3)
    assert track["start"] == track["at"] == start.structure_id
    assert [len(selection) for selection in campaign.steps()] == [1, 1, 1, 0]
    assert campaign.document.spent == len(campaign.evaluated()) + 3
    assert campaign.begin_round() is None


def test_failures_that_are_not_in_a_row_do_not(searched, broken):
    campaign = searched(refine={"best": 1, "fmax": 0.1, "evaluations": 40})
    for _ in range(3):
        broken.touch()
        campaign.refine(1)
        broken.unlink()
        campaign.refine(1)
    (track,) = campaign.refine()
    assert campaign.store.evaluations.count_documents({"state": "failed"}) == 3
    assert track["status"] == "converged"


def test_one_that_failed_goes_on_when_the_campaign_is_started_again(searched, broken):
    campaign = searched(refine={"best": 1, "fmax": 0.1, "evaluations": 40})
    broken.touch()
    campaign.refine(3)
    broken.unlink()
    campaigns.set_state(campaign.store, campaign.campaign_id, "running", "failed", reason="no licence")
    campaigns.set_state(campaign.store, campaign.campaign_id, "failed", "running")
    (track,) = campaign.refine()
    assert track["status"] == "converged"
    assert track["evaluations"] < 20  # what repels failed structures is not in the way
    steps = [digest for selection in campaign.steps() for digest in selection]
    assert len(set(steps)) == len(steps)


def test_chains_that_do_not_share_are_refined_together(searched):
    campaign = searched(share=False, budget={"chains": 2, "rounds": 1, "evaluations": 8})
    energies = {document.structure_id: energy for document, energy in campaign.evaluated()}
    assert {document.chain for document, _ in campaign.evaluated()} == {0, 1}
    campaign.begin_round()
    starts = [track["start"] for track in campaign.tracks()]
    assert energies[starts[0]] == min(energies.values())
    model = campaign.rounds()[0].model_id
    assert len(models.get_model(campaign.store, model).evaluation_ids) == len(energies)
    campaign.finish_round(campaign.rounds()[0].key)
    assert {track["status"] for track in campaign.refine()} == {"converged"}
    assert campaign.is_paid_once()


def test_without_a_model_the_foundation_leads(searched):
    campaign = searched(
        delta={"preset": "none"}, foundation={"name": "ase", "calculator": "ase.calculators.emt.EMT"}
    )
    found = campaign.refine()
    assert {track["status"] for track in found} == {"converged"}
    assert {round_.model_id for round_ in campaign.rounds()} == {None}
    assert campaign.store.models.count_documents({}) == 0


def test_where_nothing_was_evaluated_there_is_nothing_to_refine(searched, broken):
    broken.touch()
    campaign = searched()
    assert campaign.begin_round() is None
    assert campaign.rounds() == []
    last = None
    assert (
        end_of_refinement(campaign.store, campaign.campaign_id, campaign.config, last)
        == "nothing was evaluated"
    )


def test_a_spent_budget_of_time_ends_it(searched):
    campaign = searched()
    campaign.refine(1)
    second = campaign.begin_round()
    hours = (campaign.document.spent_cpu_s + 1e-3) / 3600.0
    budget = campaign.values["budget"]
    campaign.again(budget=budget | {"cpu_hours": hours})
    campaign.finish_round(second)
    level, (done, left) = campaign.document.reference_hash, campaign.steps()[1]
    assert evaluations.get_evaluation(campaign.store, done, level).state == "ok"
    assert evaluations.get_evaluation(campaign.store, left, level).state == "pending"
    assert campaign.begin_round() is None
    assert campaign.document.reserved == ()
    campaign.again(budget=budget | {"cpu_hours": 1.0})
    campaign.refine(1)
    assert left in campaign.steps()[2]
    assert {track["status"] for track in campaign.refine()} == {"converged"}
    assert campaign.is_paid_once()


def test_a_budget_that_was_spent_by_the_search_leaves_nothing_for_it(searched):
    campaign = searched(budget={"rounds": 1, "evaluations": 4, "cpu_hours": 1e-9})
    assert campaign.document.spent == 1
    assert campaign.begin_round() is None
    assert campaign.rounds() == []


def test_a_budget_made_smaller_afterwards_ends_it_as_failed(searched):
    """Evaluations are refused: a refinement does not ask for ever."""
    campaign = searched()
    campaign.again(budget={"rounds": 1, "evaluations": 1})
    paid = campaign.document.spent
    assert paid > 1
    found = campaign.refine(20)
    assert {track["status"] for track in found} == {"failed"}
    assert campaign.document.spent == paid
    assert campaign.begin_round() is None
