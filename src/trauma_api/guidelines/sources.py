"""Where the rows come from. Each was read at its address."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A guideline or study: its name with the year, its citation, and where it can be read."""

    guideline: str
    citation: str
    url: str


EAST_SPLEEN_2012 = Source(
    "EAST: selective nonoperative management of blunt splenic injury, 2012",
    "Stassen NA et al. J Trauma Acute Care Surg 2012;73(5 Suppl 4)",
    "https://www.east.org/mobile/practice-management-guideline/95",
)
EAST_LIVER_2012 = Source(
    "EAST: nonoperative management of blunt hepatic injury, 2012",
    "Stassen NA et al. J Trauma Acute Care Surg 2012;73(5 Suppl 4):S288-S293, doi 10.1097/TA.0b013e318270160d",
    "https://journals.lww.com/jtrauma/Fulltext/2012/11004/Nonoperative_management_of_blunt_hepatic_injury__.3.aspx",
)
EAST_BLUNT_ABDOMEN = Source(
    "EAST: evaluation of blunt abdominal trauma, 2001",
    "EAST practice management guideline, as summarised 2010",
    "http://thetraumapro.com/2010/01/25/initial-evaluation-of-blunt-abdominal-trauma/",
)
EAST_RESUSCITATION_2017 = Source(
    "EAST: damage control resuscitation, 2017",
    "Cannon JW et al. J Trauma Acute Care Surg 2017;82:605-617",
    "https://github.com/JesseTG/ngc_dump/blob/master/markdown/ngc-11183.md",
)
AUA_UROTRAUMA = Source(
    "AUA: urotrauma (EAST's renal guideline of 2023 has no row here: its votes could not be read)",
    "American Urological Association guideline on urotrauma, guideline.gov archive ngc-10423",
    "https://github.com/JesseTG/ngc_dump/blob/master/markdown/ngc-10423.md",
)
WTA_BOWEL_2021 = Source(
    "WTA: blunt bowel and mesenteric injury, 2021 (EAST has none)",
    "Weinberg JA et al. J Trauma Acute Care Surg 2021;91:903",
    "https://www.worldofsurgery.org/?p=92",
)
WSES_BOWEL_2022 = Source(
    "WSES: bowel trauma, 2022 (EAST has none)",
    "World J Emerg Surg 2022, doi 10.1186/s13017-022-00418-y, table 6",
    "https://wjes.biomedcentral.com/articles/10.1186/s13017-022-00418-y/tables/6",
)
CT_HOLLOW_VISCUS = Source(
    "Systematic review: CT for hollow-viscus injury",
    "16 studies, 12 514 patients, PMC8708608",
    "https://pmc.ncbi.nlm.nih.gov/articles/PMC8708608",
)
AAST_2018 = Source(
    "AAST organ injury scale, 2018 revision",
    "Kozar RA et al. J Trauma Acute Care Surg 2018;85:1119-1122, doi 10.1097/TA.0000000000002058",
    "https://pmc.ncbi.nlm.nih.gov/articles/PMC8470453",
)
SHOCK_INDEX_2013 = Source(
    "Shock index classes, TraumaRegister DGU",
    "Mutschler M et al. 2013, 21 853 patients, PMC4057268",
    "https://pmc.ncbi.nlm.nih.gov/articles/PMC4057268",
)
ATLS_10 = Source(
    "ATLS, 10th edition: base deficit classes",
    "As reproduced in the European guideline on major bleeding, 5th edition, Crit Care 2019, table 3",
    "https://ccforum.biomedcentral.com/articles/10.1186/s13054-019-2347-3/tables/3",
)
ABC_2009 = Source(
    "ABC score",
    "Nunez TC et al. 2009, PMID 19204506",
    "https://pubmed.ncbi.nlm.nih.gov/19204506",
)
