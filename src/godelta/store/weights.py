"""The weights that a campaign was begun with: it never goes on with others."""

from dataclasses import dataclass, field

from godelta.errors import InputError
from godelta.store.database import Raw, Store
from godelta.store.documents import CampaignDocument


def same_weights(sha256: str | None) -> Raw:
    """The filter of campaigns that may go on with these weights; those of before have none recorded."""
    return {} if sha256 is None else {"weights_sha256": {"$in": [None, sha256]}}


def recorded(sha256: str | None) -> Raw:
    """What to set of a campaign that goes on with these weights."""
    return {} if sha256 is None else {"weights_sha256": sha256}


def other_weights(campaign: CampaignDocument, sha256: str | None) -> InputError | None:
    """Why a campaign does not go on with these weights; None where it may."""
    if sha256 is None or campaign.weights_sha256 in {None, sha256}:
        return None
    foundation = campaign.config.get("foundation", {}).get("name", "foundation")
    return InputError(
        f"the weights of its {foundation} are not those that the campaign was begun with:"
        f" sha256 {sha256} here, {campaign.weights_sha256} then",
        where=campaign.name,
        mend="put the first weights back (`godelta foundations` tells where they are looked for),"
        " or give the campaign another name to begin anew",
    )


@dataclass
class CampaignWeights:
    """The weights of one campaign, as one process has found them in the database."""

    store: Store
    campaign_id: str
    _agreed: set[str] = field(default_factory=set)

    def agree(self, sha256: str | None) -> None:
        """Record the weights where none are, else compare.

        Parameters
        ----------
        sha256
            Of the foundation that was loaded; None for one without weights.

        Raises
        ------
        InputError
            The campaign was begun with others.
        """
        if sha256 is None or sha256 in self._agreed:
            return
        query = {"campaign_id": self.campaign_id}
        fits = self.store.campaigns.update_one(query | same_weights(sha256), {"$set": recorded(sha256)})
        if not fits.matched_count and (raw := self.store.campaigns.find_one(query)) is not None:
            error = other_weights(CampaignDocument.from_mongo(raw), sha256)
            if error is not None:
                raise error
        self._agreed.add(sha256)
