"""Where the rows come from. Each was read at its address."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A guideline or study: as lines cite it, its name with the year, its citation, and where it can be read."""

    short: str
    guideline: str
    citation: str
    url: str

    @property
    def cited(self) -> str:
        """Guideline and citation in one."""
        return f"{self.guideline}. {self.citation}"


EAST_SPLEEN_2012 = Source(
    "EAST spleen 2012",
    "EAST: selective nonoperative management of blunt splenic injury, 2012",
    "Stassen NA et al. J Trauma Acute Care Surg 2012;73(5 Suppl 4)",
    "https://www.east.org/mobile/practice-management-guideline/95",
)
EAST_RENAL_2023 = Source(
    "EAST renal 2023",
    "EAST: management of adult renal trauma, 2023",
    "BMC Surg 2023;23:22, doi 10.1186/s12893-023-01914-x",
    "https://bmcsurg.biomedcentral.com/articles/10.1186/s12893-023-01914-x",
)
EAST_LIVER_2012 = Source(
    "EAST liver 2012",
    "EAST: nonoperative management of blunt hepatic injury, 2012",
    "Stassen NA et al. J Trauma Acute Care Surg 2012;73(5 Suppl 4):S288-S293, doi 10.1097/TA.0b013e318270160d",
    "https://journals.lww.com/jtrauma/Fulltext/2012/11004/Nonoperative_management_of_blunt_hepatic_injury__.3.aspx",
)
EAST_BLUNT_ABDOMEN = Source(
    "EAST blunt abdomen 2001",
    "EAST: evaluation of blunt abdominal trauma, 2001",
    "EAST practice management guideline, as summarised 2010",
    "http://thetraumapro.com/2010/01/25/initial-evaluation-of-blunt-abdominal-trauma/",
)
EAST_PENETRATING_2010 = Source(
    "EAST penetrating 2010",
    "EAST: selective nonoperative management of penetrating abdominal trauma, 2010",
    "Como JJ et al. J Trauma 2010;68:721-733, doi 10.1097/TA.0b013e3181cf7d07",
    "https://www.east.org/mobile/practice-management-guideline/78",
)
EAST_PELVIS_2011 = Source(
    "EAST pelvis 2011",
    "EAST: hemorrhage in pelvic fracture, 2011, reaffirmed 2016",
    "Cullinane DC et al. J Trauma 2011;71:1850-1868, guideline.gov archive ngc-9611",
    "https://github.com/JesseTG/ngc_dump/blob/master/markdown/ngc-9611.md",
)
EAST_PANCREAS_2017 = Source(
    "EAST pancreas 2017",
    "EAST: adult pancreatic injuries, 2017",
    "Ho VP et al. J Trauma Acute Care Surg 2017;82:185-199, guideline.gov archive ngc-11134",
    "https://github.com/JesseTG/ngc_dump/blob/master/markdown/ngc-11134.md",
)
EAST_GENITOURINARY_2004 = Source(
    "EAST genitourinary 2004",
    "EAST: management of genitourinary trauma, 2004",
    "Holevar M et al. Eastern Association for the Surgery of Trauma 2004, guideline.gov summary 5656",
    "https://webarchive.library.unt.edu/eot2008/20090121034622/"
    "http://www.guideline.gov/summary/summary.aspx?doc_id=5656&nbr=3799",
)
EAST_RESUSCITATION_2017 = Source(
    "EAST resuscitation 2017",
    "EAST: damage control resuscitation, 2017",
    "Cannon JW et al. J Trauma Acute Care Surg 2017;82:605-617",
    "https://github.com/JesseTG/ngc_dump/blob/master/markdown/ngc-11183.md",
)
AUA_UROTRAUMA = Source(
    "AUA urotrauma",
    "AUA: urotrauma (EAST's renal guideline of 2023 has no row here: its votes could not be read)",
    "American Urological Association guideline on urotrauma, guideline.gov archive ngc-10423",
    "https://github.com/JesseTG/ngc_dump/blob/master/markdown/ngc-10423.md",
)
NICE_NG39 = Source(
    "NICE NG39",
    "NICE: major trauma, assessment and initial management, NG39, 2016",
    "National Institute for Health and Care Excellence NG39, 2016, guideline.gov archive ngc-10916",
    "https://github.com/JesseTG/ngc_dump/blob/master/markdown/ngc-10916.md",
)
WTA_BOWEL_2021 = Source(
    "WTA bowel 2021",
    "WTA: blunt bowel and mesenteric injury, 2021 (EAST has none)",
    "Weinberg JA et al. J Trauma Acute Care Surg 2021;91:903",
    "https://www.worldofsurgery.org/?p=92",
)
WSES_BOWEL_2022 = Source(
    "WSES bowel 2022",
    "WSES: bowel trauma, 2022 (EAST has none)",
    "World J Emerg Surg 2022, doi 10.1186/s13017-022-00418-y, table 6",
    "https://wjes.biomedcentral.com/articles/10.1186/s13017-022-00418-y/tables/6",
)
CT_HOLLOW_VISCUS = Source(
    "CT review, hollow viscus",
    "Systematic review: CT for hollow-viscus injury",
    "16 studies, 12 514 patients, PMC8708608",
    "https://pmc.ncbi.nlm.nih.gov/articles/PMC8708608",
)
AAST_2018 = Source(
    "AAST 2018",
    "AAST organ injury scale, 2018 revision",
    "Kozar RA et al. J Trauma Acute Care Surg 2018;85:1119-1122, doi 10.1097/TA.0000000000002058",
    "https://pmc.ncbi.nlm.nih.gov/articles/PMC8470453",
)
WSES_SPLEEN_2017 = Source(
    "WSES spleen 2017",
    "WSES: classification of splenic trauma, 2017",
    "Coccolini F et al. World J Emerg Surg 2017;12:40, doi 10.1186/s13017-017-0151-4, table 3 and its note a",
    "https://wjes.biomedcentral.com/articles/10.1186/s13017-017-0151-4/tables/3",
)
SHOCK_INDEX_2013 = Source(
    "Mutschler 2013",
    "Shock index classes, TraumaRegister DGU",
    "Mutschler M et al. 2013, 21 853 patients, PMC4057268",
    "https://pmc.ncbi.nlm.nih.gov/articles/PMC4057268",
)
ATLS_10 = Source(
    "ATLS 10",
    "ATLS, 10th edition: base deficit classes",
    "As reproduced in the European guideline on major bleeding, 5th edition, Crit Care 2019, table 3",
    "https://ccforum.biomedcentral.com/articles/10.1186/s13054-019-2347-3/tables/3",
)
ABC_2009 = Source(
    "Nunez 2009",
    "ABC score",
    "Nunez TC et al. 2009, PMID 19204506",
    "https://pubmed.ncbi.nlm.nih.gov/19204506",
)
